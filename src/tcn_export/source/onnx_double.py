"""An ONNX model in float64: the same operators, where the standard lets them take it."""

from __future__ import annotations

import onnx
from onnx import TensorProto
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError

_FLOAT, _DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
_TAKES_DOUBLE = "tensor(double)"
_TYPE_ATTRIBUTES = {"to", "dtype", "output_datatype"}


class OnlySingle(Exception):  # noqa: N818 - an answer, not an error
    """Raised where an operator takes no float64; the message names it."""


def in_double(model: onnx.ModelProto) -> tuple[onnx.ModelProto, frozenset[str]]:
    """Convert a model whose float constants are inputs.

    Args:
        model: A checked model in float32; it is not changed.

    Returns:
        The model in float64, and the inputs that stay float32: constants such as the scales of
        Resize, which the standard keeps there.

    Raises:
        OnlySingle: An operator takes no float64.
    """
    double = onnx.ModelProto()
    double.CopyFrom(model)
    graph = double.graph
    single = _constants_that_stay(model)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == _FLOAT and value.name not in single:
            value.type.tensor_type.elem_type = _DOUBLE
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i == _FLOAT:
                attribute.i = _DOUBLE
            elif attribute.HasField("t") and attribute.t.data_type == _FLOAT:
                array = onnx.numpy_helper.to_array(attribute.t).astype(float)
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(array, attribute.t.name))
        _stash_in_double(node, versions[node.domain])
    try:
        onnx.checker.check_model(double, full_check=True)
    except (ValidationError, InferenceError) as error:
        raise OnlySingle(f"in float64 it is no valid model ({_first_line(error)})") from error
    return double, single


def _stash_in_double(node: onnx.NodeProto, version: int) -> None:
    """Keep a norm from rounding to float32 in between, which it does unless told otherwise."""
    if node.op_type != "GroupNormalization":
        return
    if "stash_type" not in onnx.defs.get_schema(node.op_type, version).attributes:
        return
    told = {attribute.name: attribute for attribute in node.attribute}
    if "stash_type" in told:
        told["stash_type"].i = _DOUBLE
    else:
        node.attribute.append(onnx.helper.make_attribute("stash_type", _DOUBLE))


def _constants_that_stay(model: onnx.ModelProto) -> frozenset[str]:
    """Float inputs of operators that take float32 only, of which a constant may be one."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    floats = {
        value.name
        for value in (*inferred.input, *inferred.output, *inferred.value_info)
        if value.type.tensor_type.elem_type == _FLOAT
    }
    constants = {value.name for value in model.graph.input[1:]}
    versions = {entry.domain: entry.version for entry in model.opset_import}
    stay: set[str] = set()
    for node in model.graph.node:
        schema = onnx.defs.get_schema(node.op_type, versions[node.domain], node.domain)
        allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
        for formals, names in ((schema.inputs, node.input), (schema.outputs, node.output)):
            for i, name in enumerate(names):
                formal = formals[min(i, len(formals) - 1)].type_str
                if name not in floats or _TAKES_DOUBLE in allowed.get(formal, (formal,)):
                    continue
                if name not in constants:
                    raise OnlySingle(f"`{node.name}` ({node.op_type}) takes float32 only")
                stay.add(name)
    return frozenset(stay)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
