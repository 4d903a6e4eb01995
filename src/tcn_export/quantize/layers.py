"""The layers of a graph, as far as quantisation is concerned: what is in integers as a whole.

A convolution, a linear layer or a residual addition, with the activation behind it, which the
runtimes fuse. They have the names of their PyTorch modules.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from tcn_export.graph import MODULE_KEY, Graph
from tcn_export.quantize.dialects import Dialect

_HEADS = ("Conv", "Gemm", "MatMul", "Add")


@dataclass(frozen=True, slots=True)
class Layer:
    """Nodes that are quantised together; ``node`` is the one that computes."""

    name: str
    node: str
    nodes: frozenset[str]


def unquantizable(graph: Graph) -> frozenset[str]:
    """Names of nodes whose form ONNX Runtime's quantiser does not master: they stay in float.

    A MatMul by a stack of matrices gets its scales along the wrong axis; a Gemm whose bias is
    not one number per output fails.
    """
    return frozenset(str(node.name) for node in graph.model.graph if _is_odd(node))


def _is_odd(node: ir.Node) -> bool:
    if node.op_type not in ("MatMul", "Gemm"):
        return False
    constants = [None if v is None else v.const_value for v in node.inputs]
    if node.op_type == "MatMul":
        return any(c is not None and len(c.shape) != 2 for c in constants)
    weight, bias = constants[1], constants[2] if len(constants) > 2 else None
    if weight is None or bias is None:
        return len(node.inputs) > 2 and node.inputs[2] is not None and bias is None
    outputs = weight.shape[0 if node.attributes.get_int("transB", 0) else 1]
    return list(bias.shape) != [outputs]


def layers(graph: Graph, dialect: Dialect) -> tuple[Layer, ...]:
    """What ``dialect`` quantises of a graph, in the order of the data."""
    found = []
    odd = unquantizable(graph)
    heads = [
        node
        for node in graph.model.graph
        if node.op_type in _HEADS and _computes(node, dialect) and node.name not in odd
    ]
    for node in heads:
        nodes = {str(node.name), *(str(n.name) for n in _followers(node, dialect))}
        found.append(Layer(_title(node), str(node.name), frozenset(nodes)))
    return tuple(found)


def _computes(node: ir.Node, dialect: Dialect) -> bool:
    if node.op_type not in dialect.operators:
        return False
    # An addition of a constant is a bias or a normalisation: part of what stands before it.
    return node.op_type != "Add" or all(v is None or not v.const_value for v in node.inputs)


def _followers(node: ir.Node, dialect: Dialect) -> list[ir.Node]:
    """What alone reads a node, one after the other, up to the next layer."""
    found: list[ir.Node] = []
    while True:
        uses = list(node.outputs[0].uses())
        if len(uses) != 1 or node.outputs[0].is_graph_output():
            return found
        node = uses[0].node
        if node.op_type in _HEADS or node.op_type not in dialect.operators:
            return found
        found.append(node)


def _title(node: ir.Node) -> str:
    """The path of the PyTorch module; an addition has none of its own."""
    module = node.metadata_props.get(MODULE_KEY, "")
    if node.op_type == "Add" or not module:
        return str(node.name)
    return module
