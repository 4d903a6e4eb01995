"""BatchNorm, and constant affine operators, fold into the Conv or Gemm in front of them.

    Conv(W, b) -> BatchNormalization(gamma, beta, mean, var)
    Conv(W * s, b * s + t)    with s = gamma / sqrt(var + epsilon), t = beta - mean * s

    Conv(W, b) -> Mul, Div, Add or Sub by a constant per channel: likewise

Computed in float64 and rounded once. Crops of the time axis may stand in between: what is done
to every step alike can be done before steps are cut off. A normalisation *in front of* a
convolution is left alone: its shift would also have to be added to the zeros that the
convolution pads. (Jacob et al. 2017, arXiv:1712.05877, section 3.2; ONNX BatchNormalization
version 15.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tcn_export.rewrite.base import (
    NodeRewrite,
    Refused,
    add_initializer,
    bypass,
    constant,
    only_consumer_of,
)

Array = NDArray[np.float64]
_LINEAR = ("Conv", "Gemm")
_FOLDED = "_folded"
_CONV_RANK = 3


@dataclass(frozen=True, slots=True)
class _Affine:
    """``y = x * scale + shift``, one pair per channel or one for all."""

    scale: Array
    shift: Array


class FoldBatchNorm(NodeRewrite):
    """Fold BatchNormalization and constant affine operators into what is before them."""

    name = "fold_batch_norm"

    def is_candidate(self, node: ir.Node) -> bool:
        """Every BatchNormalization; constant affine operators behind a linear one."""
        if node.op_type == "BatchNormalization":
            return True
        if node.op_type not in ("Mul", "Div", "Add", "Sub"):
            return False
        data = _data_input(node)
        return data is not None and _behind_crops(data) is not None

    def apply(self, node: ir.Node) -> None:
        """Fold ``node`` into its producer."""
        data = node.inputs[0] if node.op_type == "BatchNormalization" else _data_input(node)
        assert data is not None
        linear = _behind_crops(data)
        if linear is None:
            raise Refused("no convolution or linear layer computes its input")
        _check_private(data, node, linear)
        weight, bias, channel_axis = _parameters(linear)
        if linear.op_type == "Conv" and weight.ndim != _CONV_RANK:
            raise Refused(f"`{linear.name}` is no convolution over one axis, time")
        channels = weight.shape[channel_axis]
        affine = _affine(node, _CONV_RANK if linear.op_type == "Conv" else 2, channels)
        shape = [1] * weight.ndim
        shape[channel_axis] = channels
        _replace(
            linear, weight * affine.scale.reshape(shape), bias * affine.scale + affine.shift
        )
        bypass(node, data)


def _data_input(node: ir.Node) -> ir.Value | None:
    """The input of ``y = x op constant``; None for other forms."""
    left, right = (value is None or value.const_value is not None for value in node.inputs)
    if right and not left:
        return node.inputs[0]
    return node.inputs[1] if left and not right and node.op_type in ("Mul", "Add") else None


def _behind_crops(value: ir.Value) -> ir.Node | None:
    """The Conv or Gemm that computes ``value``, looking through crops of the time axis."""
    producer = value.producer()
    while (
        producer is not None and producer.op_type == "Slice" and producer.inputs[0] is not None
    ):
        producer = producer.inputs[0].producer()
    return producer if producer is not None and producer.op_type in _LINEAR else None


def _check_private(value: ir.Value, reader: ir.Node, linear: ir.Node) -> None:
    """Raise `Refused` unless only ``reader`` sees what ``linear`` computes."""
    while True:
        only_consumer_of(value, reader)
        reader = value.producer()  # type: ignore[assignment]
        if reader is linear:
            return
        if linear.op_type != "Conv" or _crops_other_axes(reader):
            raise Refused(f"`{reader.name}` in between crops another axis than time")
        assert reader.inputs[0] is not None
        value = reader.inputs[0]


def _crops_other_axes(crop: ir.Node) -> bool:
    """Whether a Slice (ONNX operator version 13) touches more than time or turns it around."""
    if len(crop.inputs) < 4:
        return True  # then it begins with the first axis, the batch
    axes = constant(crop.inputs[3], "axes").tolist()
    steps = constant(crop.inputs[4], "step").tolist() if len(crop.inputs) > 4 else [1]
    return any(axis not in (2, -1) for axis in axes) or any(step != 1 for step in steps)


def _parameters(linear: ir.Node) -> tuple[Array, Array, int]:
    """Weight, bias (zeros where there is none) and the weight's output-channel axis."""
    weight = constant(linear.inputs[1], f"weight (of `{linear.name}`)").astype(np.float64)
    axis = 0
    if linear.op_type == "Gemm":
        attributes = linear.attributes
        if attributes.get_float("alpha", 1.0) != 1 or attributes.get_float("beta", 1.0) != 1:
            raise Refused(f"`{linear.name}` scales its terms (alpha, beta)")
        axis = 0 if attributes.get_int("transB", 0) else 1
    channels = weight.shape[axis]
    bias = np.zeros(channels)
    if len(linear.inputs) > 2 and linear.inputs[2] is not None:
        given = constant(linear.inputs[2], f"bias (of `{linear.name}`)").astype(np.float64)
        if given.size != 1 and given.shape not in ((channels,), (1, channels)):
            raise Refused(f"`{linear.name}` adds more than a bias per channel")
        bias = np.broadcast_to(given.ravel(), (channels,))
    return weight, bias, axis


def _affine(node: ir.Node, rank: int, channels: int) -> _Affine:
    """What ``node`` does to each of ``channels`` channels of a value of ``rank`` axes."""
    zeros, ones = np.zeros(channels), np.ones(channels)
    if node.op_type == "BatchNormalization":
        return _batch_norm(node)
    operand = next(v for v in node.inputs if v is not None and v.const_value is not None)
    array = constant(operand, "operand").astype(np.float64)
    per_channel = (1, channels) + (1,) * (rank - 2)
    if array.ndim > rank or (1,) * (rank - array.ndim) + array.shape not in (
        per_channel,
        (1,) * rank,
    ):
        raise Refused(f"its constant of the shape {array.shape} is not one value per channel")
    values = np.broadcast_to(array.ravel(), (channels,))
    match node.op_type:
        case "Mul":
            return _Affine(values, zeros)
        case "Div":
            if not values.all():
                raise Refused("it divides by zero")
            return _Affine(1 / values, zeros)
        case "Sub":
            return _Affine(ones, -values)
        case _:
            return _Affine(ones, values)


def _batch_norm(node: ir.Node) -> _Affine:
    if node.attributes.get_int("training_mode", 0):
        raise Refused("it normalises by the batch (training mode)")
    gamma, beta, mean, variance = (
        constant(node.inputs[i], what).astype(np.float64)
        for i, what in ((1, "scale"), (2, "bias"), (3, "mean"), (4, "variance"))
    )
    variance = variance + node.attributes.get_float("epsilon", 1e-5)
    if (variance <= 0).any():
        raise Refused("its variance is not positive")
    scale = gamma / np.sqrt(variance)
    return _Affine(scale, beta - mean * scale)


def _replace(linear: ir.Node, weight: Array, bias: Array) -> None:
    """Give ``linear`` parameters of its own; others may share those that it had."""
    old_weight = linear.inputs[1]
    assert old_weight is not None
    assert old_weight.const_value is not None
    assert linear.graph is not None
    dtype = old_weight.const_value.dtype.numpy()
    with np.errstate(over="ignore"):
        rounded = weight.astype(dtype), bias.astype(dtype)
    if not all(np.isfinite(array).all() for array in rounded):
        raise Refused(f"the folded weights overflow {dtype}")
    graph = linear.graph
    old_bias = linear.inputs[2] if len(linear.inputs) > 2 else None
    names = (old_weight.name, old_bias.name if old_bias is not None else f"{linear.name}.bias")
    values = [
        add_initializer(graph, f"{str(name).removesuffix(_FOLDED)}{_FOLDED}", array)
        for name, array in zip(names, rounded, strict=True)
    ]
    linear.resize_inputs(3)
    linear.replace_input_with(1, values[0])
    linear.replace_input_with(2, values[1])
    for value in (old_weight, old_bias):
        if value is not None and not value.uses():
            graph.initializers.pop(str(value.name), None)
