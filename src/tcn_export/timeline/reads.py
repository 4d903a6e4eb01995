"""Where an output reads time, and how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from tcn_export.timeline.analysis import End, Timeline, Track
from tcn_export.timeline.demand import length_of
from tcn_export.timeline.passage import where
from tcn_export.timeline.position import picked, positions
from tcn_export.timeline.reach import Reach


@dataclass(frozen=True, slots=True)
class Read:
    """One place where an output reads time.

    Attributes:
        output: Its name.
        how: In words: "every step", "the last step", "ReduceMean over time".
        reach: Of every step that is read there, with offsets from the step of the signal that
            it stands for (`Reach.from_its_step`); None where they have none in common.
        gathers: One answer is made of several steps: a mean, a flattened window.
        step: The step of the signal that the only step that is read stands for; None where
            there are several, or none.
        from_end: That step is counted from the end of the window, however long it is.
    """

    output: str
    how: str
    reach: Reach | None
    gathers: bool = False
    step: int | None = None
    from_end: bool = False

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest."""
        return {
            "output": self.output,
            "how": self.how,
            "gathers": self.gathers,
            **figures(self.reach),
        }


def figures(reach: Reach | None) -> dict[str, int | None]:
    """Entries of the manifest for a reach."""
    names = ("receptive_field", "lookback", "lookahead", "stride", "holes")
    return {name: None if reach is None else getattr(reach, name) for name in names}


def find_reads(
    timeline: Timeline, output: ir.Value, window: int
) -> Iterator[tuple[Read, ir.Value]]:
    """How an output reads time, and of which values."""
    track, name = timeline.tracks[output], output.name or ""
    if track.axis is not None:
        yield _every(timeline, output, window), output
        return
    spread: set[End] = {inner for end in track.ends for inner in end.track.ends}
    for end in track.ends:
        if end in spread:  # given to the steps again, and read with them
            continue
        if end.refused:
            yield Read(name, f"{end.node.op_type}, which cannot be followed", None), end.read
        else:
            yield _ended(timeline, name, end, window), end.read


def steps_again(timeline: Timeline, output: ir.Value) -> tuple[str, ...]:
    """Why nobody knows what the steps of an output depend on, in front of which time ended.

    The answer of a network may have steps where the walk lost them: a layer over all steps
    whose result is cut into steps again.
    """
    track = timeline.tracks[output]
    if track.axis is not None or track.refusals:
        return ()
    return tuple(
        f"`{output.name}`: its answer has steps again, after {where(end.node)} ended time "
        f"({end.how}): which of them depends on which is not known"
        for end in track.ends[-1:]
    )


def _every(timeline: Timeline, output: ir.Value, window: int) -> Read:
    """How an output with a time axis reads it."""
    track, steps = timeline.tracks[output], length_of(timeline, output)
    places = positions(timeline, output, window)
    at_end = track.reach is not None and int(places[-1]) == window - 1
    how = f"{steps} step{'' if steps == 1 else 's'}"
    if steps == window:
        how = "every step"
    elif track.reach is not None and track.reach.stride > 1:
        how += f", {track.reach.stride} apart" if steps > 1 else ""
    elif at_end:
        how = "the last step" if steps == 1 else f"the last {steps} steps"
    only = int(places[0]) if steps == 1 and at_end else None
    return Read(output.name or "", how, _reach(track), step=only, from_end=at_end)


def _ended(timeline: Timeline, name: str, end: End, window: int) -> Read:
    """How time is read where it ends."""
    length, step = length_of(timeline, end.read), picked(timeline, end)
    if step < 0 and length > 1:
        return Read(name, end.how, _reach(end.track), gathers=True)
    place = int(positions(timeline, end.read, window)[step])
    from_end = step in (-1, length - 1)
    return Read(name, end.how, _reach(end.track), step=place, from_end=from_end)


def _reach(track: Track) -> Reach | None:
    return None if track.reach is None else track.reach.from_its_step()
