"""The walk along the data: what each value of a graph depends on.

For a value with a time axis, step t depends on ``signal[stride * t - lookback ... stride * t +
lookahead]`` (`Reach`). Where time ends, it is noted what was read there, and how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce

import onnx_ir as ir

from tcn_export.timeline.passage import (
    Passage,
    Timed,
    Whole,
    Window,
    rank_of,
    read_inside,
    size_of,
    where,
)
from tcn_export.timeline.reach import Reach
from tcn_export.timeline.rules import SHAPE_ONLY, passages


@dataclass(frozen=True, slots=True)
class End:
    """Where time ends.

    Attributes:
        node: Reads steps and gives none.
        how: In words: "the last step", "ReduceMean over time".
        read: The value that it reads.
        track: What that value depends on.
        refused: Why the node could not be followed; "" where the end is a plain one.
    """

    node: ir.Node
    how: str
    read: ir.Value
    track: Track
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Track:
    """What a value depends on.

    Attributes:
        axis: Its time axis; None behind all `ends`.
        reach: Of each step; None where it depends on the whole window, or has no steps.
        ends: Where time ended in front of it.
    """

    axis: int | None
    reach: Reach | None
    ends: tuple[End, ...] = ()

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why some of what it depends on is not known."""
        return tuple(dict.fromkeys(end.refused for end in self.ends if end.refused))


@dataclass(frozen=True, slots=True)
class Timeline:
    """The time axis of a whole graph.

    Attributes:
        tracks: By value; a value that does not depend on the signal is not among them.
        passages: By node that reads a value with a time axis, one for each of its outputs.
        inside: By node: what its branches, or its body, read of all this; every step of it.
    """

    tracks: Mapping[ir.Value, Track]
    passages: Mapping[ir.Node, tuple[Passage, ...]]
    inside: Mapping[ir.Node, tuple[ir.Value, ...]]


def analyze(model: ir.Model, inputs: Mapping[str, int | None]) -> Timeline:
    """Follow time from the inputs to the outputs.

    Args:
        model: With inferred shapes, its nodes in the order of the data.
        inputs: The time axis of each input by name; None for one that has none.
    """
    tracks: dict[ir.Value, Track] = {}
    for value in model.graph.inputs:
        if (value.name or "") in inputs and value.name not in model.graph.initializers:
            tracks[value] = Track(inputs[value.name or ""], Reach())
    read: dict[ir.Node, tuple[Passage, ...]] = {}
    inside: dict[ir.Node, tuple[ir.Value, ...]] = {}
    for node in model.graph:
        known = {
            i: tracks[value]
            for i, value in enumerate(node.inputs)
            if value is not None and value in tracks
        }
        inner = tuple(value for value in read_inside(node) if value in tracks)
        if not (known or inner) or node.op_type in SHAPE_ONLY:
            continue
        timed = {i: _timed(node.inputs[i], track) for i, track in known.items()}
        with_time = {i: data for i, data in timed.items() if data is not None}
        ends = tuple(dict.fromkeys(end for track in known.values() for end in track.ends))
        if inner:
            inside[node] = inner
            lost = Passage(
                None,
                dict.fromkeys(with_time, Whole()),
                refused=f"{where(node)}: its branches, or its body, read the signal",
            )
            read[node] = (lost,) * len(node.outputs)
            ends += tuple(_end(node, lost, value, tracks[value]) for value in inner)
            for output in node.outputs:
                tracks[output] = _arrive(node, lost, known, ends)
            continue
        if not with_time:
            for output in node.outputs:
                tracks[output] = Track(None, None, ends)
            continue
        read[node] = tuple(passages(node, with_time))
        for output, passage in zip(node.outputs, read[node], strict=True):
            tracks[output] = _arrive(node, passage, known, ends)
    return Timeline(tracks, read, inside)


def _timed(value: ir.Value | None, track: Track) -> Timed | None:
    if value is None or track.axis is None:
        return None
    return Timed(track.axis, rank_of(value), size_of(value, track.axis))


def _arrive(
    node: ir.Node, passage: Passage, known: Mapping[int, Track], ends: tuple[End, ...]
) -> Track:
    """What an output depends on, given what it reads of the inputs."""
    new = [_end(node, passage, node.inputs[i], known[i]) for i in passage.reads]
    if passage.axis is None:
        return Track(None, None, (*ends, *new))
    if ends:  # a part of what it reads depends on the whole window
        return Track(passage.axis, None, ends)
    reaches = []
    for position, reading in passage.reads.items():
        before = known[position].reach
        if before is None or not isinstance(reading, Window):
            return Track(passage.axis, None, tuple(new))
        reaches.append(before.through(reading.stride, reading.offsets, reading.behind))
    strides = sorted({reach.stride for reach in reaches})
    if len(strides) > 1:
        reason = f"{where(node)}: its inputs have strides of {strides} steps"
        return Track(passage.axis, None, tuple(replace(end, refused=reason) for end in new))
    return Track(passage.axis, reduce(Reach.union, reaches), ends)


def _end(node: ir.Node, passage: Passage, value: ir.Value | None, track: Track) -> End:
    assert value is not None
    how = passage.end or f"chosen steps ({node.op_type})"
    return End(node, how, value, track, passage.refused)
