"""The graph of an ONNX file -> canonical graph: its own operators, under its own names."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes import common

from tcn_export.canonical import canonicalize, name_interface, name_nodes
from tcn_export.errors import UnsupportedModelError
from tcn_export.graph import Graph
from tcn_export.quiet import quiet
from tcn_export.settle_shapes import settle_shapes
from tcn_export.source.adapter import Adapter
from tcn_export.source.base import Source

_TURN = [0, 2, 1]


def adopt(source: Source, length: int | None, opset: int) -> Graph:
    """Take over the graph that a source came as.

    Args:
        source: Holds the graph, and an `Adapter` where that takes or gives other layouts.
        length: Steps of the exported window; None keeps the length symbolic.
        opset: ONNX operator set version; the graph is converted to it.

    Returns:
        A graph whose nodes and values have the names that they had in the file.

    Raises:
        UnsupportedModelError: It cannot be expressed in the operator set.
    """
    assert source.model is not None
    signature = source.signature.with_length(length)
    model = ir.from_proto(_converted(source, opset))
    if isinstance(source.module, Adapter):
        _turn(model.graph, source.module)
    for value, spec in zip(model.graph.inputs, signature.inputs, strict=True):
        value.shape = ir.Shape(spec.shape)
    _forget_shapes(model.graph)
    with quiet("onnxscript", "onnx_ir"):
        canonicalize(model)
        common.ShapeInferencePass()(model)
        settle_shapes(model)
        _forget_shapes(model.graph)
        common.ShapeInferencePass()(model)
    for value, spec in zip(model.graph.outputs, signature.outputs, strict=True):
        value.shape = ir.Shape(spec.shape)
    name_interface(model.graph, signature)
    name_nodes(model.graph, are_named=True)
    common.ShapeInferencePass()(model)
    model.producer_name, model.producer_version = "tcn-export", None
    model.doc_string = None
    model.metadata_props.clear()
    return Graph(model, signature)


def _converted(source: Source, opset: int) -> onnx.ModelProto:
    """The model in another operator set, by ONNX's own converter."""
    assert source.model is not None
    found = next(e.version for e in source.model.opset_import if e.domain in ("", "ai.onnx"))
    if found == opset:
        return source.model
    try:
        converted = version_converter.convert_version(source.model, opset)
        onnx.checker.check_model(converted, full_check=True)
    except (
        RuntimeError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as error:
        reason = " ".join(str(error).split())[:300]
        raise UnsupportedModelError(
            f"{source.origin} is written in operator set {found} and cannot be converted to "
            f"{opset}: {reason}. Choose another with --opset."
        ) from error
    return converted


def _turn(graph: ir.Graph, adapter: Adapter) -> None:
    """Take and give (batch, channels, steps), the answer first, as the adapter does."""
    if adapter.is_nlc:
        (signal,) = graph.inputs
        node = ir.node("Transpose", [signal], {"perm": _TURN})
        node.outputs[0].type = signal.type
        ir.convenience.replace_all_uses_with(signal, node.outputs[0])
        node.replace_input_with(0, signal)
        first = next(iter(graph), None)
        if first is None:
            graph.append(node)
        else:
            graph.insert_before(first, node)
    outputs = []
    for i, turned in zip(adapter.order, adapter.turned, strict=True):
        value = graph.outputs[i]
        if turned:
            node = ir.node("Transpose", [value], {"perm": _TURN})
            node.outputs[0].type = value.type
            graph.append(node)
            value = node.outputs[0]
        outputs.append(value)
    graph.outputs[:] = outputs


def _forget_shapes(graph: ir.Graph) -> None:
    """Those of the file hold for another length, or another layout."""
    for node in graph:
        for value in node.outputs:
            value.shape = None
