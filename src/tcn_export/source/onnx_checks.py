"""Whether an ONNX model is one that can be exported: valid, standard ONNX, in float32."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, inliner
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError

from tcn_export.errors import CheckpointError, UnsupportedModelError
from tcn_export.source.base import MOST_VALUES

OLDEST_OPSET = 7
MOST_NODES = 100_000
_DEEPEST = 100

_STANDARD = ("", "ai.onnx")
_CONTROL = {"If", "Loop", "Scan", "SequenceMap"}
_CHANCE = {
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
}  # fmt: skip
_QUANTIZED = {
    "ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv",
    "QLinearMatMul", "QuantizeLinear",
}  # fmt: skip
_HALF = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}


def standardize(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    """Check a model, and bring it into the form that everything else expects.

    Functions are inlined, float constants become initialisers, and the notes that the file
    keeps of shapes in between are dropped; nothing that changes a number.

    Raises:
        CheckpointError: It is no valid model.
        UnsupportedModelError: It is one that cannot be exported; the message says why.
    """
    for entry in model.opset_import:
        if entry.domain in _STANDARD and entry.version < OLDEST_OPSET:
            raise UnsupportedModelError(
                f"{path} is written in ONNX operator set {entry.version}; expected "
                f"{OLDEST_OPSET} or newer. Export it again."
            )
    _check_functions(path, model)  # first: the checker unfolds them too
    _check(path, model)
    if model.functions:
        model = inliner.inline_local_functions(model)
    _check_nodes(path, model)
    if model.graph.sparse_initializer:
        raise UnsupportedModelError(f"{path} holds sparse weights. Save them dense.")
    _lift_constants(model.graph)
    _name_nodes(model.graph)
    _check_types(path, model.graph)
    del model.graph.value_info[:]
    return model


def infer(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes that follow from those of its input.

    Raises:
        UnsupportedModelError: They contradict each other, or are too large.
    """
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(
            model, check_type=True, strict_mode=True, data_prop=True
        )
    except (InferenceError, ValidationError) as error:
        raise UnsupportedModelError(
            f"the shapes in {path} do not hold for any batch: {_line(error)}. Export it again "
            "with a dynamic batch."
        ) from error
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        size = 1
        for dimension in value.type.tensor_type.shape.dim:
            size *= max(dimension.dim_value, 1)
        if size > MOST_VALUES:
            raise UnsupportedModelError(
                f"`{value.name}` in {path} has {size:,} values for one window; expected at "
                f"most {MOST_VALUES:,}. Export it for shorter windows."
            )
    return inferred


def _check(path: Path, model: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (ValidationError, InferenceError) as error:
        raise CheckpointError(f"{path} is no valid ONNX model: {_line(error)}") from error
    except (ValueError, TypeError, RuntimeError, MemoryError, UnicodeDecodeError) as error:
        # What the checker's C++ raises for forged messages is not documented.
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}: {_line(error)}). Copy it again."
        ) from error


def _check_functions(path: Path, model: onnx.ModelProto) -> None:
    """Raise `CheckpointError` where functions call each other into a huge graph."""
    functions = {(f.domain, f.name): f for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(key: tuple[str, str], depth: int) -> int:
        if key not in functions:
            return 1
        if key not in sizes:
            if depth > _DEEPEST:
                return MOST_NODES + 1  # perhaps it calls itself
            calls = _calls(functions[key].node)
            sizes[key] = min(sum(size(call, depth + 1) for call in calls), MOST_NODES + 1)
        return sizes[key]

    if sum(size(call, 0) for call in _calls(model.graph.node)) > MOST_NODES:
        raise CheckpointError(
            f"{path} unfolds to more than {MOST_NODES:,} operators, or its functions call "
            f"each other more than {_DEEPEST} deep. It is forged, or no network for a device."
        )


def _calls(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[str, str]]:
    """What nodes call, and the nodes of the graphs in their attributes."""
    for node in nodes:
        yield node.domain, node.op_type
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _calls(graph.node)


def _check_nodes(path: Path, model: onnx.ModelProto) -> None:
    """Raise `UnsupportedModelError` at the first operator that cannot be exported."""
    off = _switched_off(model.graph)
    for node in model.graph.node:
        reason = _why_not(node, off)
        if reason:
            raise UnsupportedModelError(
                f"`{node.name or node.output[0]}` ({node.op_type}) in {path} {reason}"
            )


def _switched_off(graph: onnx.GraphProto) -> set[str]:
    """Names of constants that are false; the empty name of an input left out is one."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    return {""} | {
        name
        for name, tensor in constants.items()
        if tensor.data_type == TensorProto.BOOL
        and not onnx.numpy_helper.to_array(tensor).any()
    }


def _why_not(node: onnx.NodeProto, off: set[str]) -> str:
    numbers = {attribute.name: attribute.i for attribute in node.attribute}
    if node.domain not in _STANDARD:
        return (
            f"is an operator of {node.domain}, not of standard ONNX. Give the file as it was "
            "before a runtime optimised it."
        )
    if node.op_type in _CONTROL:
        return (
            "is control flow, which no target runs fast. Export the network again with its "
            "branch decided."
        )
    if node.op_type in _CHANCE:
        return "draws random numbers. Export the network again in eval mode."
    if node.op_type in _QUANTIZED:
        return (
            "is quantised already. Give the float32 model, and quantise it here: --precision "
            "int8 --data FILE.npz."
        )
    is_training = (
        bool(numbers.get("training_mode"))
        or (
            (node.op_type == "Dropout" and any(name not in off for name in node.input[2:3]))
            # Before operator set 14 the further outputs said it.
            or (node.op_type == "BatchNormalization" and any(node.output[1:]))
        )
    )
    if is_training:
        return "is in training mode. Call model.eval(), and export the network again."
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        return "holds a graph of its own. Export the network again without it."
    return ""


def _check_types(path: Path, graph: onnx.GraphProto) -> None:
    """Raise `UnsupportedModelError` where arithmetic is not in float32."""
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in _HALF:
                raise UnsupportedModelError(
                    f"`{node.name}` (Cast) in {path} rounds to {_HALF[attribute.i]}. Give the "
                    "float32 model; --precision float16 converts it here."
                )
    for tensor in graph.initializer:
        if tensor.data_type in _HALF:
            raise UnsupportedModelError(
                f"`{tensor.name}` in {path} is {_HALF[tensor.data_type]}. Give the float32 "
                "model; --precision float16 converts it here."
            )
        _check_values(path, tensor)
    for value in graph.output:
        kind = value.type.tensor_type.elem_type
        if kind != TensorProto.FLOAT:
            told = TensorProto.DataType.Name(kind) if kind else "no tensor"
            raise UnsupportedModelError(
                f"the output `{value.name}` of {path} is {told}; expected FLOAT. Export the "
                "scores themselves, without ArgMax or casts; return only those."
            )


def _check_values(path: Path, tensor: TensorProto) -> None:
    try:
        array = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"`{tensor.name}` in {path} does not hold the values of its shape: "
            f"{_line(error)}. Copy the file again."
        ) from error
    if array.dtype == np.float32 and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise CheckpointError(
            f"{bad} of {array.size} values of `{tensor.name}` in {path} are NaN or infinite. "
            "Export a network whose training did not diverge."
        )


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Make initialisers of the float constants that are nodes: weights in one place."""
    for node in list(graph.node):
        if node.op_type != "Constant" or len(node.attribute) != 1:
            continue
        (told,) = node.attribute
        if told.name == "value" and told.t.data_type == TensorProto.FLOAT:
            tensor = told.t
        elif told.name == "value_float":
            tensor = onnx.helper.make_tensor("", TensorProto.FLOAT, [], [told.f])
        elif told.name == "value_floats":
            tensor = onnx.helper.make_tensor(
                "", TensorProto.FLOAT, [len(told.floats)], told.floats
            )
        else:
            continue
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a printable name of its own."""
    taken: set[str] = set()
    for node in graph.node:
        name = node.name if node.name.isprintable() and node.name else node.op_type
        unique, n = name, 2
        while unique in taken:
            unique, n = f"{name}_{n}", n + 1
        taken.add(unique)
        node.name = unique


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
