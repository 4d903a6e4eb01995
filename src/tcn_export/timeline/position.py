"""Which step of the signal a step of a value, or an answer, stands for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tcn_export.timeline.analysis import End, Timeline
from tcn_export.timeline.demand import demand, length_of
from tcn_export.timeline.passage import Picks, Steps


def positions(timeline: Timeline, value: ir.Value, window: int) -> Steps:
    """What each step of a value stands for, in a signal of ``window`` steps.

    Where a stride is not known, the steps are spread evenly. Without a time axis a value
    stands for the step that it was read at, and for the last one where all were read.
    """
    steps, track = length_of(timeline, value), timeline.tracks[value]
    if track.axis is None:
        read = [
            positions(timeline, end.read, window)[picked(timeline, end)] for end in track.ends
        ]
        return np.array([max(read, default=window - 1)])
    if track.reach is None:
        return window - 1 - np.arange(steps)[::-1] * window // steps
    return track.reach.place.first + np.arange(steps) * track.reach.stride


def is_placed(timeline: Timeline, value: ir.Value) -> bool:
    """Whether `positions` knows them, and need not guess."""
    track = timeline.tracks[value]
    if track.axis is not None:
        return track.reach is not None
    return all(
        is_placed(timeline, end.read) or picked(timeline, end) < 0 for end in track.ends
    )


def picked(timeline: Timeline, end: End) -> int:
    """The step that is read where time ends; the last one where several are."""
    for read in timeline.passages[end.node][0].reads.values():
        if isinstance(read, Picks) and len(read.steps) == 1:
            return read.steps[0] % length_of(timeline, end.read)
    return -1


def steps_ahead(model: ir.Model, timeline: Timeline, value: ir.Value, signal: ir.Value) -> int:
    """How far a value with a time axis depends on later steps than those it stands for.

    Where its steps have no common reach, its first step tells.
    """
    reach = timeline.tracks[value].reach
    if reach is not None:
        return reach.from_its_step().lookahead
    needed = demand(model, timeline, {value: np.zeros(1, np.int64)}).get(signal, ())
    first = int(positions(timeline, value, length_of(timeline, signal))[0])
    return int(max(needed, default=first)) - first
