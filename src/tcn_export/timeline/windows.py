"""Rules for operators that read several steps, or other steps: convolutions, pools, crops."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx_ir as ir

from tcn_export.timeline.passage import (
    SAME_STEP,
    NotFollowed,
    Passage,
    Picks,
    Timed,
    Whole,
    Window,
    integers,
    rank_of,
    size_of,
)

_UNBOUNDED = 2**31 - 1
"""An end at or beyond this means "to the end", however long the input is."""


def spatial(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Convolutions and pools over (batch, channels, axes ...)."""
    if set(timed) != {0}:
        raise NotFollowed("its weights depend on the signal")
    data = timed[0]
    if data.axis == 1 and node.op_type == "Conv":
        raise NotFollowed("its channels are the steps: transpose the signal in front of it")
    if data.axis < 2:
        return Passage(data.axis, {0: SAME_STEP})
    return Passage(data.axis, {0: window_of(node, data)})


def window_of(node: ir.Node, data: Timed) -> Window:
    """The steps that a convolution or pool reads."""
    i, axes = data.axis - 2, data.rank - 2
    ones = [1] * axes
    weight = node.inputs[1] if node.op_type == "Conv" else None
    if weight is not None:
        kernel = size_of(weight, data.axis)
        if kernel is None:
            raise NotFollowed("the size of its kernel is not known")
    else:
        kernel = node.attributes.get_ints("kernel_shape", ones)[i]
    stride = node.attributes.get_ints("strides", ones)[i]
    dilation = node.attributes.get_ints("dilations", ones)[i]
    automatic = node.attributes.get_string("auto_pad", "NOTSET")
    span = (kernel - 1) * dilation + 1
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        if data.length is None:
            raise NotFollowed("its padding depends on the length, which is symbolic")
        total = max((math.ceil(data.length / stride) - 1) * stride + span - data.length, 0)
        front = total // 2 if automatic == "SAME_UPPER" else total - total // 2
        behind = total - front
    else:
        pads = node.attributes.get_ints("pads", [0] * 2 * axes)
        front, behind = pads[i], pads[i + axes]
    return Window(stride, tuple(j * dilation - front for j in range(kernel)), behind)


def global_pool(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Pools over everything behind the channels."""
    if timed[0].axis < 2:
        return Passage(timed[0].axis, {0: SAME_STEP})
    return Passage(None, {0: Whole()}, end=f"{node.op_type} over time")


def pad(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Pad: operator version 11 and newer, with pads as an input."""
    data = timed[0]
    given = integers(node.inputs[1], "pads")
    axes = list(range(data.rank))
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = [axis % data.rank for axis in integers(node.inputs[3], "axes")]
    if data.axis not in axes:
        return Passage(data.axis, {0: SAME_STEP})
    i = axes.index(data.axis)
    front, behind = given[i], given[i + len(axes)]
    mode = node.attributes.get_string("mode", "constant")
    if mode != "constant" and (front > 0 or behind > 0):
        raise NotFollowed(
            f"it pads time in the mode {mode!r}: steps of the signal come in twice. Pad with "
            "zeros instead"
        )
    return Passage(data.axis, {0: Window(1, (-front,), behind)})


def slice_(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Slice: operator version 10 and newer, with starts, ends, axes and steps as inputs."""
    data = timed[0]
    starts = integers(node.inputs[1], "start")
    axes = list(range(len(starts)))
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = [axis % data.rank for axis in integers(node.inputs[3], "axes")]
    if data.axis not in axes:
        return Passage(data.axis, {0: SAME_STEP})
    i = axes.index(data.axis)
    steps = (
        integers(node.inputs[4], "step")
        if len(node.inputs) > 4 and node.inputs[4] is not None
        else [1] * len(starts)
    )
    start, step = starts[i], steps[i]
    if step > 0 and start == 0:  # whatever its end is, computed or symbolic
        return Passage(data.axis, {0: Window(step, (0,), -_cut(node.outputs[0], data, step))})
    if data.length is None:
        if step > 0 and 0 < start < _UNBOUNDED:
            return Passage(data.axis, {0: Window(step, (start,))})
        raise NotFollowed("it counts steps from the end of a signal of symbolic length")
    end = integers(node.inputs[2], "end")[i]
    taken = range(data.length)[slice(start, _end(end, step, data.length), step)]
    if step > 0:
        return Passage(data.axis, {0: Window(step, (taken.start,), taken.stop - data.length)})
    return Passage(data.axis, {0: Picks(tuple(taken))})


def _cut(output: ir.Value, data: Timed, step: int) -> int:
    """How many steps a crop from the first one on leaves out; 0 where a length is symbolic."""
    kept = size_of(output, data.axis)
    return 0 if kept is None or data.length is None else max(0, data.length - kept * step)


def _end(end: int, step: int, length: int) -> int | None:
    if step < 0 and end < -length:  # to the first step, and with it
        return None
    return end


def gather(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Gather of constant steps; of one step it ends time."""
    if set(timed) != {0}:
        raise NotFollowed("its indices depend on the signal")
    data = timed[0]
    axis = node.attributes.get_int("axis", 0) % data.rank
    indices = node.inputs[1]
    assert indices is not None
    rank = rank_of(indices)
    if axis != data.axis:
        return Passage(data.axis + (rank - 1 if axis < data.axis else 0), {0: SAME_STEP})
    steps = integers(indices, "index")
    if rank == 0:
        return Passage(None, {0: Picks(tuple(steps))}, end=_named(steps[0]))
    if rank > 1:
        raise NotFollowed("it cuts the signal into windows")
    return Passage(data.axis, {0: Picks(tuple(steps))})


def _named(step: int) -> str:
    return "the last step" if step == -1 else f"step {step}"


def concat(node: ir.Node, timed: Mapping[int, Timed]) -> Passage:
    """Concat on channels, or of constants in front of the signal or behind it."""
    (axis, rank) = next((t.axis, t.rank) for t in timed.values())
    if any(t.axis != axis for t in timed.values()):
        raise NotFollowed("its inputs have time on different axes")
    if node.attributes.get_int("axis", 0) % rank != axis:
        return Passage(axis, dict.fromkeys(timed, SAME_STEP))
    if len(timed) > 1:
        raise NotFollowed("it puts pieces of the signal one behind the other")
    (position,) = timed
    front = 0
    for value in node.inputs[:position]:
        size = None if value is None else size_of(value, axis)
        if size is None:
            raise NotFollowed("the length of what it puts in front is not known")
        front += size
    data, total = timed[position], size_of(node.outputs[0], axis)
    behind = 0
    if total is not None and data.length is not None:
        behind = total - front - data.length
    return Passage(axis, {position: Window(1, (-front,), behind)})


def split(node: ir.Node, timed: Mapping[int, Timed]) -> list[Passage]:
    """Split: on channels every output keeps its steps, on time each has its own."""
    data = timed[0]
    if node.attributes.get_int("axis", 0) % data.rank != data.axis:
        return [Passage(data.axis, {0: SAME_STEP})] * len(node.outputs)
    passages, front = [], 0
    for output in node.outputs:
        size = size_of(output, data.axis)
        if size is None:
            raise NotFollowed("the lengths of its pieces are not known")
        left = 0 if data.length is None else data.length - front - size
        passages.append(Passage(data.axis, {0: Window(1, (front,), -left)}))
        front += size
    return passages
