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


def layers(graph: Graph, dialect: Dialect) -> tuple[Layer, ...]:
    """What ``dialect`` quantises of a graph, in the order of the data."""
    found = []
    heads = [n for n in graph.model.graph if n.op_type in _HEADS and _computes(n, dialect)]
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
