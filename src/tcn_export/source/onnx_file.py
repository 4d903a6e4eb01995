"""An ONNX file as a source: its own graph is exported, and it is its own oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import onnx
from onnx import TensorProto

from tcn_export.errors import UnsupportedModelError
from tcn_export.graph import BATCH, LENGTH, Dimension
from tcn_export.source.base import Source, Told
from tcn_export.source.file_signal import FileSignal, Move, settle
from tcn_export.source.file_source import source_from_file
from tcn_export.source.onnx_checks import infer, standardize
from tcn_export.source.onnx_module import OnnxModule
from tcn_export.source.onnx_reading import read_model

_CHANGES_NO_AXIS = {
    "Abs", "Add", "Cast", "Clip", "Div", "Dropout", "Elu", "Erf", "Exp",
    "Gelu", "HardSwish", "Identity", "LeakyRelu", "Log", "Mul", "Neg", "Pad", "Pow", "Relu",
    "Sigmoid", "Slice", "Sqrt", "Sub", "Tanh",
}  # fmt: skip
_CHANNELS_FIRST = {
    "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "GlobalAveragePool",
    "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "MaxPool",
}  # fmt: skip
_SWAPS = [0, 2, 1]


def load_onnx(path: Path, told: Told) -> Source:
    """Read an ONNX model, and find out what goes in and what comes out.

    Args:
        path: The file; its weights lie in it, or beside it.
        told: What the user says; ``input_shape`` fixes what the file leaves open.

    Raises:
        CheckpointError: The file cannot be read, is damaged, or reaches for other files.
        UnsupportedModelError: The model cannot be exported; the message says why.
        UsageError: What was told contradicts the file, or does not suffice.
    """
    model, digest = read_model(path)
    model = standardize(path, model)
    signal = _signal(path, model.graph, told)
    _open_axes(model.graph, signal)
    model = infer(path, model)
    opset = next(e.version for e in model.opset_import if e.domain in ("", "ai.onnx"))
    return source_from_file(
        path,
        "onnx",
        digest,
        OnnxModule(model),
        signal,
        told,
        f"ONNX {opset}, {model.producer_name or 'unknown producer'}",
        f"dynamic_axes={{'{signal.name}': {{0: 'batch'}}}}, or with dynamo=True "
        f"dynamic_shapes={{'{signal.name}': {{0: torch.export.Dim('batch')}}}}",
        tuple(value.name for value in model.graph.output),
        model,
    )


def _signal(path: Path, graph: onnx.GraphProto, told: Told) -> FileSignal:
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(f"`{value.name}`" for value in inputs) or "none"
        raise UnsupportedModelError(
            f"{path} takes {len(inputs)} inputs ({names}); expected one signal. Wrap "
            "it in a module that takes one signal and fills in the others, and export that."
        )
    (value,) = inputs
    kind = value.type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        found = TensorProto.DataType.Name(kind) if kind else "no tensor"
        raise UnsupportedModelError(
            f"the input `{value.name}` of {path} is {found}; expected FLOAT. Put the Cast "
            "outside of the network."
        )
    sizes = tuple(
        dim.dim_value if dim.dim_value > 0 else dim.dim_param or None
        for dim in value.type.tensor_type.shape.dim
    )
    return settle(path, value.name, sizes, told, map(_move, graph.node))


def _move(node: onnx.NodeProto) -> Move:
    """What a node does to the axes of a signal."""
    kind: Literal["swap", "convolution", "same", "other"] = "other"
    if node.op_type == "Transpose" and any(list(a.ints) == _SWAPS for a in node.attribute):
        kind = "swap"
    elif node.op_type in _CHANNELS_FIRST:
        kind = "convolution"
    elif node.op_type in _CHANGES_NO_AXIS:
        kind = "same"
    return Move(tuple(node.input), node.output[0], kind)


def _open_axes(graph: onnx.GraphProto, signal: FileSignal) -> None:
    """Give the input our names for what is open, and let no constant hold the batch."""
    value = next(v for v in graph.input if v.name == signal.name)
    del graph.input[:]
    length: Dimension = signal.steps if signal.is_fixed else LENGTH
    shape: list[Dimension] = [BATCH, signal.channels, length]
    if signal.layout == "NLC":
        shape = [BATCH, length, signal.channels]
    value.type.CopyFrom(onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, shape))
    graph.input.append(value)
    if signal.batch is not None:
        _open_reshapes(graph, signal.batch)


def _open_reshapes(graph: onnx.GraphProto, batch: int) -> None:
    """Let Reshape take the batch from its input (0), where the file has its number."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        sizes = onnx.numpy_helper.to_array(constants[node.input[1]]).copy()
        told = [a for a in node.attribute if a.name == "allowzero"]
        if any(a.i for a in told) and not sizes.all():
            continue
        for attribute in told:  # without a size of 0 it says nothing
            node.attribute.remove(attribute)
        if sizes.size and sizes[0] == batch:
            sizes[0] = 0
            name = f"{node.name}.shape"
            graph.initializer.append(onnx.numpy_helper.from_array(sizes, name))
            node.input[1] = name
