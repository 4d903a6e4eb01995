"""What the outputs depend on: where time is read, how far back and ahead, and by whom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from tcn_export.graph import Graph
from tcn_export.timeline.advice import length_warnings
from tcn_export.timeline.ahead import first_to_look_ahead
from tcn_export.timeline.analysis import Timeline, analyze
from tcn_export.timeline.cone import Cone, draw_cone
from tcn_export.timeline.demand import demand, length_of
from tcn_export.timeline.passage import where
from tcn_export.timeline.reach import Reach
from tcn_export.timeline.reads import Read, figures, find_reads, steps_again
from tcn_export.timeline.tally import Measured


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
    def receptive_field(self) -> int | None:
        """Steps from the first to the last that an answer depends on; None where unknown."""
        return None if self.reach is None else self.reach.receptive_field

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
        return length_warnings(self.window, self.needed, self.unread, self.reads, self.reach)

    def to_json(self) -> dict[str, Any]:
        """The entries of the manifest."""
        found = figures(self.reach)
        return {
            "receptive_field": found["receptive_field"],
            "lookahead": found["lookahead"],
            "causal": self.causal,
            "dependence": {
                **found,
                "window": self.window,
                "is_dynamic": self.is_dynamic,
                "needed": self.needed,
                "reads": [read.to_json() for read in self.reads],
                "looks_ahead": list(self.looks_ahead),
                "refusals": list(self.refusals),
                "warnings": list(self.warnings),
                "measured": None if self.measured is None else self.measured.to_json(),
                "cone": None if self.cone is None else self.cone.to_json(),
            },
        }


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
    read = [found for output in outputs for found in find_reads(timeline, output, window)]
    refusals = [why for output in outputs for why in timeline.tracks[output].refusals]
    with_steps = {spec.name for spec in graph.signature.outputs if spec.time_axis is not None}
    again = [output for output in outputs if output.name in with_steps]
    refusals += [why for output in again for why in steps_again(timeline, output)]
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
