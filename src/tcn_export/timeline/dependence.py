"""What the outputs depend on: where time is read, how far back and ahead, and by whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import onnx_ir as ir

from tcn_export.graph import Graph
from tcn_export.timeline.ahead import first_to_look_ahead
from tcn_export.timeline.analysis import End, Timeline, Track, analyze
from tcn_export.timeline.cone import Cone, draw_cone
from tcn_export.timeline.demand import demand, length_of
from tcn_export.timeline.passage import where
from tcn_export.timeline.perturbing import Measured
from tcn_export.timeline.reach import Reach

UNREAD_SHARE = 0.25
"""Of the window: so much may go unread without a warning."""


@dataclass(frozen=True, slots=True)
class Read:
    """One place where an output reads time.

    Attributes:
        output: Its name.
        how: In words: "every step", "the last step", "ReduceMean over time".
        reach: Of every step that is read there, with offsets from the step of the signal that
            it stands for (`Reach.from_its_step`); None where they have none in common.
    """

    output: str
    how: str
    reach: Reach | None

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest."""
        return {"output": self.output, "how": self.how, **_figures(self.reach)}


@dataclass(frozen=True, slots=True)
class Dependence:
    """What the outputs of a network depend on, for windows of one length.

    Attributes:
        window: Steps of the signal.
        needed: So many of them can reach an output.
        unread: So many at the beginning cannot.
        reads: Where time is read.
        looks_ahead: The nodes that depend on later steps while nothing that they read does.
        refusals: Nodes that could not be followed, and why.
        cone: What one step that is read needs of every layer.
        measured: What the eager model says of it; None where it was not asked.
        is_dynamic: The exported window may have any length, and ``window`` is an example.
    """

    window: int
    needed: int
    unread: int
    reads: tuple[Read, ...]
    looks_ahead: tuple[str, ...]
    refusals: tuple[str, ...]
    cone: Cone | None
    measured: Measured | None = None
    is_dynamic: bool = False

    @property
    def reach(self) -> Reach | None:
        """Of all reads together; the stride is that of the first."""
        found = [read.reach for read in self.reads if read.reach is not None]
        if self.refusals or not found or len(found) < len(self.reads):
            return None
        alike = [replace(reach, stride=found[0].stride) for reach in found]
        return reduce(Reach.union, alike)

    @property
    def causal(self) -> bool | None:
        """Whether no step that is read depends on later ones; None where nobody knows."""
        if self.looks_ahead:
            return False
        return None if self.reach is None else True

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know about the length of the window."""
        if self.is_dynamic:
            return ()
        found, reach = [], self.reach
        if reach is not None and self.window < reach.receptive_field:
            missing = reach.receptive_field - self.window
            found.append(
                f"the window of {self.window} steps is shorter than the receptive field of "
                f"{reach.receptive_field}: {missing} steps that an answer depends on are zero "
                f"padding. Longer windows tell more: --length {reach.receptive_field}."
            )
        idle = self.window - self.needed
        if not self.needed:
            found.append(
                "no step of the window can reach an answer: all that is read is padding."
            )
        elif idle >= UNREAD_SHARE * self.window:
            advice = (
                f" Leave the first {self.unread} out: --length {self.window - self.unread}."
            )
            found.append(
                f"{idle} of the {self.window} steps of the window are never read."
                + (advice if self.unread >= UNREAD_SHARE * self.window else "")
            )
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """The entries of the manifest."""
        figures = _figures(self.reach)
        return {
            "receptive_field": figures["receptive_field"],
            "lookahead": figures["lookahead"],
            "causal": self.causal,
            "dependence": {
                **figures,
                "window": self.window,
                "needed": self.needed,
                "reads": [read.to_json() for read in self.reads],
                "looks_ahead": list(self.looks_ahead),
                "refusals": list(self.refusals),
                "warnings": list(self.warnings),
                "measured": None if self.measured is None else self.measured.to_json(),
                "cone": None if self.cone is None else self.cone.to_json(),
            },
        }


def _figures(reach: Reach | None) -> dict[str, int | None]:
    names = ("receptive_field", "lookback", "lookahead", "stride", "holes")
    return {name: None if reach is None else getattr(reach, name) for name in names}


def find_dependence(graph: Graph) -> tuple[Dependence, Timeline]:
    """Find out what the outputs of a graph depend on.

    Args:
        graph: As captured, with inferred shapes and a window of known length.

    Returns:
        What was found, not yet measured, and the analysis behind it.

    Raises:
        NotFollowed: A length is symbolic.
    """
    model = graph.model
    timeline = analyze(model, {spec.name: spec.time_axis for spec in graph.signature.inputs})
    (signal,) = (value for value in model.graph.inputs if value in timeline.tracks)
    window = length_of(timeline, signal)
    outputs = [value for value in model.graph.outputs if value in timeline.tracks]
    read = [found for output in outputs for found in _reads(timeline, output, window)]
    refusals = [why for output in outputs for why in timeline.tracks[output].refusals]
    followed = [] if refusals else [value for _, value in read]
    needed = demand(model, timeline).get(signal, np.zeros(0, np.int64))
    return Dependence(
        window,
        len(needed),
        int(needed[0]) if len(needed) else window,
        tuple(found for found, _ in read),
        tuple(map(where, first_to_look_ahead(model, timeline, followed, signal))),
        tuple(dict.fromkeys(refusals)),
        draw_cone(model, timeline, signal, outputs[0]) if outputs else None,
    ), timeline


def _reads(
    timeline: Timeline, output: ir.Value, window: int
) -> Iterator[tuple[Read, ir.Value]]:
    """How an output reads time, and of which values."""
    track, name = timeline.tracks[output], output.name or ""
    if track.axis is not None:
        steps = length_of(timeline, output)
        how = "every step" if steps == window else f"the last {steps} steps"
        if track.reach is not None and track.reach.stride > 1:
            how = f"{steps} steps, {track.reach.stride} apart"
        yield Read(name, how, _reach(track)), output
        return
    spread: set[End] = {inner for end in track.ends for inner in end.track.ends}
    for end in track.ends:
        if end in spread:  # given to the steps again, and read with them
            continue
        if end.refused:
            yield Read(name, f"{end.node.op_type}, which cannot be followed", None), end.read
        else:
            yield Read(name, end.how, _reach(end.track)), end.read


def _reach(track: Track) -> Reach | None:
    return None if track.reach is None else track.reach.from_its_step()
