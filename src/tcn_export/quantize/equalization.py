"""Cross-layer equalisation: channels of two convolutions in a row get weights of equal range.

    y = W2 * relu(W1 * x + b1)  =  (W2 S) * relu((W1 / S) * x + b1 / S)

for a positive scale per channel, since relu(s x) = s relu(x). All channels of an activation
share one step of int8: where one of them is a hundred times as large as the others, those have
a hundredth of the integers. With s = sqrt(r1 r2) / r2, where r1 and r2 are the largest weights
that write and that read the channel, both get the range sqrt(r1 r2) (Nagel, van Baalen,
Blankevoort, Welling 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", section 4.1). Every pair of a chain is scaled in turn, a few times.

The scales are powers of two, so that nothing is rounded: the graph computes the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tcn_export.graph import Refusal
from tcn_export.rewrite.base import (
    Outcome,
    Refused,
    Rewrite,
    add_initializer,
    constant,
    only_consumer_of,
)

_HOMOGENEOUS = frozenset({"AveragePool", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Relu"})
"""f(s x) = s f(x) for every s > 0, channel by channel."""
_ROUNDS = 4
_SMALLEST = 2.0**-24
"""A channel whose largest weight is less than this part of the largest of all is left alone:
it is as good as dead, and to blow it up gains nothing."""


class CrossLayerEqualization(Rewrite):
    """Scale the channels between two convolutions, or a convolution and a linear layer."""

    name = "cross_layer_equalization"

    def call(self, model: ir.Model) -> Outcome:
        """Scale every pair; name the near misses."""
        pairs, refusals = [], []
        for node in model.graph:
            if node.op_type != "Conv":
                continue
            try:
                pairs.append(_pair(node))
            except Refused as refusal:
                refusals.append(Refusal(node.name or node.op_type, str(refusal)))
        moved = [False] * len(pairs)
        for _ in range(_ROUNDS):
            for i, pair in enumerate(pairs):
                moved[i] |= _equalize(pair)
        return Outcome(sum(moved), tuple(refusals))


@dataclass(frozen=True, slots=True)
class _Pair:
    writer: ir.Node
    reader: ir.Node


def _pair(writer: ir.Node) -> _Pair:
    """A convolution with the only one that reads it, through what scales with it."""
    constant(writer.inputs[1], "weight")
    if len(writer.inputs) > 2 and writer.inputs[2] is not None:
        constant(writer.inputs[2], "bias")
    node = writer
    while True:
        value = node.outputs[0]
        uses = list(value.uses())
        if not uses:
            raise Refused(f"nobody reads `{value.name}`")
        reader = uses[0].node
        only_consumer_of(value, reader)
        if reader.op_type in ("Conv", "Gemm") and uses[0].idx == 0:
            _check_reader(writer, reader)
            return _Pair(writer, reader)
        if not _scales(reader) or uses[0].idx != 0:
            raise Refused(f"`{reader.name}` ({reader.op_type}) does not scale by channel")
        node = reader


def _check_reader(writer: ir.Node, reader: ir.Node) -> None:
    weight = constant(reader.inputs[1], f"weight (of `{reader.name}`)")
    channels = constant(writer.inputs[1], "weight").shape[0]
    if reader.op_type == "Conv" and _groups(reader) not in (1, channels):
        raise Refused(f"`{reader.name}` reads its channels in groups")
    if weight.shape[_reading_axis(reader)] != channels:
        raise Refused(f"`{reader.name}` has not one row of weights per channel")


def _scales(node: ir.Node) -> bool:
    """Whether a node hands a channel's scale on; crops and squeezes of time do, too."""
    if node.op_type in _HOMOGENEOUS or node.op_type == "Identity":
        return True
    if node.op_type == "Slice":
        axes = node.inputs[3].const_value if len(node.inputs) > 3 and node.inputs[3] else None
        return axes is not None and all(axis in (2, -1) for axis in axes.numpy().tolist())
    if node.op_type == "Gather":
        return node.attributes.get_int("axis", 0) in (2, -1)
    if node.op_type == "Pad":  # with zeros, which stay zeros; channels keep their places
        pads = node.inputs[1].const_value if node.inputs[1] is not None else None
        if pads is None or (len(node.inputs) > 2 and node.inputs[2] is not None):
            return False
        rank = pads.size // 2
        return not any(pads.numpy()[[0, 1, rank, rank + 1]])
    if node.op_type == "ReduceMean":
        axes = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] else None
        return axes is not None and all(axis in (2, -1) for axis in axes.numpy().tolist())
    return False


def _groups(conv: ir.Node) -> int:
    return conv.attributes.get_int("group", 1)


def _reading_axis(reader: ir.Node) -> int:
    """The axis of a weight along which input channels are counted."""
    if reader.op_type == "Gemm":
        return 1 if reader.attributes.get_int("transB", 0) else 0
    return 0 if _groups(reader) > 1 else 1  # a depthwise convolution has one row per channel


def _equalize(pair: _Pair) -> bool:
    """Scale the channels of a pair; whether anything moved."""
    first = constant(pair.writer.inputs[1], "weight").astype(np.float64)
    second = constant(pair.reader.inputs[1], "weight").astype(np.float64)
    axis = _reading_axis(pair.reader)
    writes, reads = _ranges(first, 0), _ranges(second, axis)
    live = (writes > _SMALLEST * writes.max()) & (reads > _SMALLEST * reads.max())
    if not live.any():
        return False
    scale = np.ones(len(writes))
    scale[live] = np.sqrt(writes[live] / reads[live])
    scale[live] /= np.exp2(np.log2(scale[live]).mean())  # the common part changes nothing
    scale = np.exp2(np.round(np.log2(scale)))
    if (scale == 1).all():
        return False
    _set(pair.writer, 1, first / _along(scale, first.ndim, 0))
    if len(pair.writer.inputs) > 2 and pair.writer.inputs[2] is not None:
        _set(pair.writer, 2, constant(pair.writer.inputs[2], "bias").astype(float) / scale)
    _set(pair.reader, 1, second * _along(scale, second.ndim, axis))
    return True


def _ranges(weight: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest: NDArray[np.float64] = np.abs(weight).max(axis=others)
    return largest


def _along(scale: NDArray[np.float64], rank: int, axis: int) -> NDArray[np.float64]:
    shape = [1] * rank
    shape[axis] = len(scale)
    return scale.reshape(shape)


def _set(node: ir.Node, position: int, array: NDArray[np.generic]) -> None:
    """Give a node a constant of its own; others may share the one that it had."""
    old = node.inputs[position]
    assert old is not None
    assert node.graph is not None
    name = f"{str(old.name).removesuffix(_EQUALIZED)}{_EQUALIZED}"
    if str(old.name).endswith(_EQUALIZED):
        old.const_value = ir.tensor(array.astype(np.float32), name=old.name)
        return
    node.replace_input_with(
        position, add_initializer(node.graph, name, array.astype(np.float32))
    )
    if not old.uses():
        node.graph.initializers.pop(str(old.name), None)


_EQUALIZED = "_equalized"
