"""Faults at one node of a finished model, as a careless hand or a broken tool would make them.

Each takes a model and one of its nodes, breaks it in place, and says whether it could.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

WEIGHTED = ("Conv", "Gemm", "MatMul")


def constant(model: ModelProto, name: str) -> np.ndarray | None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor).copy()
    return None


def replace_constant(model: ModelProto, node: NodeProto, position: int, array) -> None:
    """Give this node alone another constant."""
    name = f"{node.name}/changed_{position}"
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    node.input[position] = name


def source_of(model: ModelProto, node: NodeProto, position: int) -> tuple[NodeProto, int]:
    """Where a constant stands: behind the DequantizeLinear, where there is one."""
    for other in model.graph.node:
        if other.op_type == "DequantizeLinear" and node.input[position] in other.output:
            return other, 0
    return node, position


def one_weight(model, node):
    """The largest weight 1 % larger; of an int8 weight, forty steps smaller."""
    if node.op_type not in WEIGHTED:
        return False
    holder, position = source_of(model, node, 1)
    array = constant(model, holder.input[position])
    if array is None:
        return False
    place = np.unravel_index(np.abs(array.astype(float)).argmax(), array.shape)
    if array.dtype == np.int8:
        array[place] -= np.sign(array[place]) * 40
    else:
        array[place] *= array.dtype.type(1.01)
    replace_constant(model, holder, position, array)
    return True


def wrong_sign(model, node):
    """All weights of the wrong sign."""
    if node.op_type not in WEIGHTED:
        return False
    holder, position = source_of(model, node, 1)
    array = constant(model, holder.input[position])
    if array is None:
        return False
    replace_constant(model, holder, position, -array)
    return True


def no_bias(model, node):
    if node.op_type not in WEIGHTED or len(node.input) < 3:
        return False
    holder, position = source_of(model, node, 2)
    array = constant(model, holder.input[position])
    if array is None or not array.any():
        return False
    replace_constant(model, holder, position, np.zeros_like(array))
    return True


def swapped_pads(model, node):
    for attribute in node.attribute:
        if attribute.name == "pads":
            before = list(attribute.ints)
            half = len(before) // 2
            attribute.ints[:] = [*before[half:], *before[:half]]
            return list(attribute.ints) != before
    return False


def no_activation(model, node):
    """The node is gone; whoever read its output reads its input."""
    outputs = {value.name for value in model.graph.output}
    if node.op_type not in ("Relu", "Tanh", "Sigmoid", "LeakyRelu"):
        return False
    if node.output[0] in outputs:
        return False
    for other in model.graph.node:
        other.input[:] = [node.input[0] if n == node.output[0] else n for n in other.input]
    model.graph.node.remove(node)
    return True


def wrong_constant(model, node):
    """The constant of an element-wise node 1 % larger."""
    if node.op_type not in ("Mul", "Add", "Sub", "Div"):
        return False
    array = constant(model, node.input[1])
    if array is None:
        return False
    replace_constant(model, node, 1, (array * array.dtype.type(1.01)).astype(array.dtype))
    return True


def _converter(model, node, operator):
    """The QuantizeLinear behind a node, or the DequantizeLinear behind that."""
    quantizers = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    for quantizer in quantizers:
        if quantizer.input[0] in node.output or quantizer is node:
            if operator == "QuantizeLinear":
                return quantizer
            return next(
                (n for n in model.graph.node if quantizer.output[0] in n.input[:1]), None
            )
    return None


def _conversion(operator, position, change):
    """A fault in a constant of the conversion beside a node."""

    def fault(model, node):
        converter = _converter(model, node, operator)
        if converter is None or converter.op_type != operator:
            return False
        old = constant(model, converter.input[position])
        replace_constant(model, converter, position, change(old))
        return True

    return fault


def _next(zero_point):
    return (zero_point.astype(int) + (1 if zero_point < 100 else -1)).astype(zero_point.dtype)


def _wider(scale):
    return np.float32(1.1) * scale


FAULTS = {
    "one weight": one_weight,
    "wrong sign": wrong_sign,
    "no bias": no_bias,
    "swapped pads": swapped_pads,
    "no activation": no_activation,
    "wrong constant": wrong_constant,
    "zero point of Q": _conversion("QuantizeLinear", 2, _next),
    "zero point of DQ": _conversion("DequantizeLinear", 2, _next),
    "scale of Q": _conversion("QuantizeLinear", 1, _wider),
    "scale of DQ": _conversion("DequantizeLinear", 1, _wider),
}


def planted(model: bytes, node: str, fault: str) -> bytes | None:
    """The model with a fault at one node; None where it has no place for it."""
    changed = onnx.load_from_string(model)
    (broken,) = [n for n in changed.graph.node if n.name == node]
    if not FAULTS[fault](changed, broken):
        return None
    onnx.checker.check_model(changed)
    return changed.SerializeToString()
