"""The canonical form of a graph: no operators that do nothing, constants lifted, nodes named.

What changes numbers is a rewrite of ours, not this.
"""

from __future__ import annotations

import ast

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript import rewriter
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter.rules import common as rules

from tcn_export.graph import MODULE_KEY, Signature

_SCOPES = "pkg.torch.onnx.name_scopes"
_NO_OPERATION = (
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.no_op_transpose_rule,
    rules.transpose_transpose_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
    rules.cast_cast_rule,
    rules.reshape_reshape_rule,
    rules.matmul_add_to_gemm_rule,
)


def canonicalize(model: ir.Model) -> None:
    """Fold constants and remove what does nothing, in place."""
    for _ in range(2):  # folding a constant can turn an operator into one that does nothing
        with np.errstate(all="ignore"):  # what is not finite shows in the answers
            fold_constants(model)
        rewriter.RewritePass(_NO_OPERATION)(model)
        common.RemoveUnusedNodesPass()(model)
    for clean in (
        common.IdentityEliminationPass(),
        common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
    ):
        clean(model)


def name_interface(graph: ir.Graph, signature: Signature) -> None:
    """Give inputs and outputs their names, and every output a value of its own.

    A network may answer with one tensor twice, or with its input; and it may call an answer
    what it calls a weight, which then gives way.
    """
    wanted = {spec.name for spec in (*signature.inputs, *signature.outputs)}
    for name in wanted & set(graph.initializers):
        graph.initializers[name].name = _free(name, wanted | set(graph.initializers))
    for value, spec in zip(graph.inputs, signature.inputs, strict=True):
        value.name = spec.name
    taken: set[ir.Value] = set(graph.inputs)
    for i, (value, spec) in enumerate(zip(graph.outputs, signature.outputs, strict=True)):
        own = value
        if value in taken:
            node = ir.node("Identity", [value])
            own = node.outputs[0]
            own.shape, own.type = value.shape, value.type
            graph.append(node)
            graph.outputs[i] = own
        own.name = spec.name
        taken.add(own)


def name_nodes(graph: ir.Graph, prefix: str = "", are_named: bool = False) -> None:
    """Name nodes and outputs ``module.path/Operator``; drop the exporter's own notes.

    Those hold stack traces with paths of the exporting machine.

    Args:
        graph: Changed in place.
        prefix: Left out in front of module paths and parameters.
        are_named: Keep the names of nodes for which no module is known.
    """
    for name in [name for name in graph.initializers if prefix and name.startswith(prefix)]:
        interface = {value.name or "" for value in (*graph.inputs, *graph.outputs)}
        own = _free(name.removeprefix(prefix), interface | set(graph.initializers))
        graph.initializers[name].name = own
    taken: set[str] = {value.name or "" for value in (*graph.inputs, *graph.outputs)}
    taken |= set(graph.initializers)
    for node in graph:
        path = f"{_module_path(node)}.".removeprefix(prefix).removesuffix(".")
        base = f"{path}/{node.op_type}" if path else node.op_type
        if are_named and not path and node.name:
            # The older exporter names nodes /module/Operator.
            base = node.name.strip("/") or base
            path = base.rpartition("/")[0]
        name = _free(base, taken)
        taken.add(name)
        node.name = name
        node.metadata_props.clear()
        node.metadata_props[MODULE_KEY] = path
        node.doc_string = None
        for i, value in enumerate(node.outputs):
            value.metadata_props.clear()
            if not value.is_graph_output():
                value.name = name if i == 0 else f"{name}:{i}"
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        value.metadata_props.clear()
    graph.metadata_props.clear()
    _name_constants(graph)


def _free(name: str, taken: set[str]) -> str:
    """``name``, or ``name_2`` and so on where that is taken."""
    unique, n = name, 2
    while unique in taken:
        unique, n = f"{name}_{n}", n + 1
    return unique


def _name_constants(graph: ir.Graph) -> None:
    """Name constants that are no parameters after the input they feed: ``x/Pad.pads``."""
    taken = set(graph.initializers)
    for value in [v for v in graph.initializers.values() if (v.name or "").startswith("val_")]:
        use = next(iter(value.uses()))
        node, index = use.node, use.idx
        schema = onnx.defs.get_schema(
            node.op_type, graph.opset_imports[node.domain], node.domain
        )
        base = f"{node.name}.{schema.inputs[min(index, len(schema.inputs) - 1)].name}"
        name = _free(base, taken)  # the inputs of Concat all have one name
        taken.add(name)
        value.name = name


def _module_path(node: ir.Node) -> str:
    """The PyTorch module that a node was traced in, as the exporter noted it."""
    try:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        return str(scopes[-2]) if len(scopes) > 1 else ""
    except (ValueError, SyntaxError, TypeError, LookupError, MemoryError, RecursionError):
        return ""  # a file may hold anything under that name
