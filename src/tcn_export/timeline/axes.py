"""Rules for operators that keep the steps apart: element-wise, over channels, of the shape."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx_ir as ir

from tcn_export.timeline.passage import (
    SAME_STEP,
    NotFollowed,
    Passage,
    Picks,
    Reading,
    Timed,
    Whole,
    array_of,
    integers,
    rank_of,
    size_of,
)


def element_wise(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Operators that broadcast their inputs and compute every element alone."""
    output = node.outputs[0]
    rank = rank_of(output)
    axes = {rank - data.rank + data.axis for data in timed.values()}
    if len(axes) > 1:
        raise NotFollowed("its inputs have time on different axes")
    (axis,) = axes
    length = size_of(output, axis)
    return Passage(axis, {i: _broadcast(data, length) for i, data in timed.items()})


def _broadcast(data: Timed, length: int | None) -> Reading:
    """How an input is read by an output of ``length`` steps: a single step by all of them."""
    if data.length != 1 or length == 1:
        return SAME_STEP
    if length is None:
        raise NotFollowed("it spreads a single step over a symbolic length")
    return Picks((0,) * length)


def first_input(_: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Operators that compute every element alone, with constants beside the data."""
    if set(timed) != {0}:
        raise NotFollowed("its parameters depend on the signal")
    return Passage(timed[0].axis, {0: SAME_STEP})


def over_axis(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Softmax and its like: they mix the elements of one axis."""
    data = timed[0]
    if node.attributes.get_int("axis", -1) % data.rank == data.axis:
        raise NotFollowed("it compares every step with all others")
    return Passage(data.axis, {0: SAME_STEP})


def layer_norm(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """LayerNormalization: normalises over its axis and all behind it."""
    if set(timed) != {0}:
        raise NotFollowed("its parameters depend on the signal")
    data = timed[0]
    if node.attributes.get_int("axis", -1) % data.rank <= data.axis:
        raise NotFollowed(
            "it normalises over time, so that every step depends on all others. Normalise "
            "over channels: transpose to (batch, steps, channels) in front of it"
        )
    return Passage(data.axis, {0: SAME_STEP})


def over_time_norm(_node: ir.Node, _timed: Mapping[int, Timed]) -> Passage:
    """InstanceNormalization and GroupNormalization."""
    raise NotFollowed(
        "it normalises over time, so that every step depends on all others. Use BatchNorm, or "
        "LayerNorm over channels"
    )


def transpose(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Transpose."""
    data = timed[0]
    order = node.attributes.get_ints("perm", [*reversed(range(data.rank))])
    return Passage([axis % data.rank for axis in order].index(data.axis), {0: SAME_STEP})


def unsqueeze(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Unsqueeze: operator version 13, with axes as an input."""
    given, rank = integers(node.inputs[1], "axes"), timed[0].rank
    new = {axis % (rank + len(given)) for axis in given}
    kept = [axis for axis in range(rank + len(new)) if axis not in new]
    return Passage(kept[timed[0].axis], {0: SAME_STEP})


def squeeze(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Squeeze: operator version 13, with axes as an input."""
    data = timed[0]
    if len(node.inputs) < 2 or node.inputs[1] is None:
        raise NotFollowed("it drops every axis of size 1. Name the axis")
    gone = {axis % data.rank for axis in integers(node.inputs[1], "axes")}
    if data.axis in gone:
        return Passage(None, {0: Whole()}, end="the only step")
    return Passage(data.axis - sum(axis < data.axis for axis in gone), {0: SAME_STEP})


def reduce(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """ReduceMean, ReduceMax, ArgMax and their like."""
    data = timed[0]
    if node.op_type in ("ArgMax", "ArgMin"):
        axes = [node.attributes.get_int("axis", 0)]
    elif len(node.inputs) > 1 and node.inputs[1] is not None:
        axes = integers(node.inputs[1], "axes")
    else:
        axes = list(node.attributes.get_ints("axes", [*range(data.rank)]))
    gone = {axis % data.rank for axis in axes}
    if data.axis in gone:
        return Passage(None, {0: Whole()}, end=f"{node.op_type} over time")
    if node.attributes.get_int("keepdims", 1):
        return Passage(data.axis, {0: SAME_STEP})
    return Passage(data.axis - sum(axis < data.axis for axis in gone), {0: SAME_STEP})


def reshape(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Reshape, Flatten: time is followed where as many elements lie behind it as before."""
    if set(timed) != {0}:
        raise NotFollowed("its shape depends on the signal")
    data, value, output = timed[0], node.inputs[0], node.outputs[0]
    assert value is not None
    behind, wanted = _behind(value, data.axis), size_of(value, data.axis)
    for axis in range(rank_of(output)):
        same = _same_size(value, output, data.axis, axis)
        if behind is not None and same and _behind(output, axis) == behind:
            return Passage(axis, {0: SAME_STEP})
    if wanted is not None and behind is not None and rank_of(output) <= 2:
        if rank_of(output) == 2 and not _same_size(value, output, 0):
            raise NotFollowed("it puts the steps into the batch")
        return Passage(None, {0: Whole()}, end="all steps, flattened")
    raise NotFollowed(
        "it mixes time with another axis, as GroupNorm and attention do: a step may depend on "
        "all others"
    )


def _same_size(one: ir.Value, other: ir.Value, axis: int, other_axis: int = 0) -> bool:
    """Whether two axes are known to be of one size."""
    if one.shape is None or other.shape is None:
        return False
    size, other_size = one.shape[axis], other.shape[other_axis]
    is_known = isinstance(size, int) or size.value is not None
    return is_known and size == other_size


def _behind(value: ir.Value, axis: int) -> int | None:
    """How many elements lie behind an axis."""
    assert value.shape is not None
    sizes = list(value.shape)[axis + 1 :]
    known = [size for size in sizes if isinstance(size, int)]
    return math.prod(known) if len(known) == len(sizes) else None


def expand(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Expand: new axes come in front, and time keeps its steps."""
    data, output = timed[0], node.outputs[0]
    axis = rank_of(output) - data.rank + data.axis
    if data.length == 1 and size_of(output, axis) != 1:
        raise NotFollowed("it repeats a single step")
    return Passage(axis, {0: SAME_STEP})


def matmul(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """MatMul with a constant: over channels it keeps the steps, over time it ends them."""
    if len(timed) > 1:
        raise NotFollowed("it compares steps of the signal with each other, as attention does")
    ((position, data),) = timed.items()
    other = node.inputs[1 - position]
    rank = rank_of(node.outputs[0])
    summed = data.rank - 1 if position == 0 else max(data.rank - 2, 0)
    assert other is not None
    if data.axis == summed:
        kept = -1 if position == 0 else -2
        _refuse_mixing(data, None if rank_of(other) < 2 else size_of(other, kept))
        return Passage(None, {position: Whole()}, end="a weighted sum over time")
    if rank_of(other) < 2:
        raise NotFollowed("it multiplies with a vector")
    return Passage(rank - data.rank + data.axis, {position: SAME_STEP})


def gemm(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Gemm, whose inputs have two axes."""
    if set(timed) != {0}:
        raise NotFollowed("its weights depend on the signal")
    summed = 0 if node.attributes.get_int("transA", 0) else 1
    if timed[0].axis == summed:
        _refuse_mixing(timed[0], size_of(node.outputs[0], 1))
        return Passage(None, {0: Whole()}, end="a weighted sum over time")
    return Passage(0, {0: SAME_STEP})


def _refuse_mixing(data: Timed, kept: int | None) -> None:
    """As many sums as steps are steps again, in the sense of who wrote the network."""
    if data.length is not None and data.length > 1 and kept == data.length:
        raise NotFollowed("it makes as many steps of all steps, so that each depends on all")


def einsum(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Einsum of one timed input with constants."""
    if len(timed) > 1:
        raise NotFollowed("it compares steps of the signal with each other, as attention does")
    equation = node.attributes.get_string("equation", "").replace(" ", "")
    terms, arrow, result = equation.partition("->")
    ((position, data),) = timed.items()
    if not arrow or "." in equation:
        raise NotFollowed(f"its equation {equation!r} does not name every axis")
    letter = terms.split(",")[position][data.axis]
    if equation.count(letter) - result.count(letter) > 1:
        raise NotFollowed("it weighs every step by itself")
    if letter in result:
        return Passage(result.index(letter), {position: SAME_STEP})
    return Passage(None, {position: Whole()}, end="a sum over time")


def quantize(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """QuantizeLinear and DequantizeLinear, per tensor or per channel."""
    if set(timed) != {0}:
        raise NotFollowed("its scale depends on the signal")
    scale = array_of(node.inputs[1])
    axis = node.attributes.get_int("axis", 1) % timed[0].rank
    if scale is None or (scale.size > 1 and axis == timed[0].axis):
        raise NotFollowed("it has a scale for every step")
    return Passage(timed[0].axis, {0: SAME_STEP})
