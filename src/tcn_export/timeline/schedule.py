"""When every value of a stream is computed: its delay, its steps per hop, and what is kept.

A stream gives a network `hop` new steps of its signal at a time. A value of stride s then gets
``hop / s`` steps. Where it looks ahead it waits: with a delay of d steps, hop k gives it the
steps ``k * steps - d`` to ``(k + 1) * steps - d - 1``. A node that reads the steps
``stride * t + offset`` of a value reads, in every hop, that chunk with some steps before it
(`history`) and without some at its end (`unused`); branches of different delay meet that way
too.

Before step 0 of a value there is nothing but the padding of who reads it; see
`Intake.is_padded`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from tcn_export.errors import UnsupportedModelError, UsageError
from tcn_export.graph import MODULE_KEY
from tcn_export.timeline.analysis import Timeline
from tcn_export.timeline.demand import length_of
from tcn_export.timeline.excess import excess_after
from tcn_export.timeline.from_the_end import aligned, is_at_the_end, last_steps
from tcn_export.timeline.passage import Passage, Picks, Reading, Window, where
from tcn_export.timeline.rules import SHAPE_ONLY

MEANS = frozenset({"ReduceMean", "GlobalAveragePool"})
"""Operators that take the mean over time, of a whole window."""
EndKind = Literal["last", "mean"]


@dataclass(frozen=True, slots=True)
class Flow:
    """What a hop gives a value: ``steps`` of them, ``delay`` behind the signal."""

    steps: int
    delay: int


@dataclass(frozen=True, slots=True)
class Intake:
    """How a node reads a value in a hop.

    Attributes:
        history: Steps that it reads in front of the chunk; negative where it leaves out some
            of the chunk's first ones.
        unused: Steps at the end of the chunk that it does not read yet.
        is_padded: It reads padding in front of step 0, where the value has no steps.
    """

    history: int
    unused: int
    is_padded: bool


@dataclass(frozen=True, slots=True)
class End:
    """Where the answers of a stream are read: one for every hop.

    Attributes:
        kind: The ``last`` steps, or the ``mean`` over time.
        steps: So many of the last ones are read; of a mean 0.
    """

    kind: EndKind
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """When every value is computed.

    Attributes:
        hop: Steps of the signal that come at a time.
        flows: By value with a time axis, up to where time ends.
        intakes: By node, output and input, how what flows is read.
        ends: By node where time ends; whatever reads its output has no steps any more.
        excess: By value that flows, the steps that a window has of it beyond its share of the
            signal; negative where it has fewer.
        axes: By value that flows, its time axis.
    """

    hop: int
    flows: Mapping[ir.Value, Flow]
    intakes: Mapping[tuple[ir.Node, int, int], Intake]
    ends: Mapping[ir.Node, End]
    excess: Mapping[ir.Value, int]
    axes: Mapping[ir.Value, int]

    def unreached(self, value: ir.Value) -> int:
        """How many of the last steps that a signal has of a value come only after its end."""
        return self.flows[value].delay + self.excess[value]

    def memory(self, value: ir.Value) -> int:
        """Steps of a value that have to be kept from hop to hop."""
        return max((0, *(i.history for _, i in self.readers(value))))

    def readers(self, value: ir.Value) -> Iterable[tuple[ir.Node, Intake]]:
        """Who reads a value, and how."""
        for (node, _, position), intake in self.intakes.items():
            if node.inputs[position] is value:
                yield node, intake


def find_schedule(
    model: ir.Model, timeline: Timeline, hop: int, mean_steps: int | None
) -> Schedule:
    """Find out when every value of a stream can be computed.

    Args:
        model: The analysed graph of one window, its lengths known.
        timeline: What `analyze` gave for it.
        hop: Steps of the signal that come at a time.
        mean_steps: A mean over time is one over so many of the last steps, 0 for all since the
            stream began; None where none is allowed.

    Raises:
        UnsupportedModelError: A node needs more than a bounded past, or a step to come.
        UsageError: The hop is no multiple of the total stride.
    """
    return _Scheduler(model, timeline, hop, mean_steps).find()


class _Scheduler:
    def __init__(
        self, model: ir.Model, timeline: Timeline, hop: int, mean_steps: int | None
    ) -> None:
        self._model = model
        self._timeline = timeline
        self._aligned = aligned(model, timeline)
        self._hop = hop
        self._mean_steps = mean_steps
        self._flows: dict[ir.Value, Flow] = {}
        self._excess: dict[ir.Value, int] = {}
        self._intakes: dict[tuple[ir.Node, int, int], Intake] = {}
        self._ends: dict[ir.Node, End] = {}

    def find(self) -> Schedule:
        for value in self._model.graph.inputs:
            track = self._timeline.tracks.get(value)
            if track is not None and track.axis is not None:
                self._flows[value] = Flow(self._hop, 0)
                self._excess[value] = 0
        for node in self._model.graph:
            flowing = {
                i: self._flows[value]
                for i, value in enumerate(node.inputs)
                if value is not None and value in self._flows
            }
            if node in self._timeline.inside:
                raise _cannot(node, "its branches, or its body, read the signal")
            if not flowing:
                continue
            if node.op_type in SHAPE_ONLY:
                self._check_shape(node)
                continue
            for i, output in enumerate(node.outputs):
                self._arrive(node, i, output, flowing)
        axes = {value: self._timeline.tracks[value].axis or 0 for value in self._flows}
        return Schedule(self._hop, self._flows, self._intakes, self._ends, self._excess, axes)

    def _check_shape(self, node: ir.Node) -> None:
        """Raise where the number of steps is asked for; other sizes are the window's."""
        value = node.inputs[0]
        assert value is not None
        assert value.shape is not None
        start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", None)
        told = range(len(value.shape))[start:end]
        if node.op_type != "Shape" or self._timeline.tracks[value].axis in told:
            raise _cannot(node, "it tells how many steps the window has")

    def _arrive(
        self, node: ir.Node, index: int, output: ir.Value, flowing: Mapping[int, Flow]
    ) -> None:
        passage = self._timeline.passages[node][index]
        if passage.refused:
            raise UnsupportedModelError(f"the network cannot be streamed: {passage.refused}.")
        ended = [
            value.name
            for i, value in enumerate(node.inputs)
            if value in self._timeline.tracks and value is not None and i not in flowing
        ]
        if ended:
            raise _cannot(
                node,
                f"it gives every step what was read of the whole window (`{ended[0]}`), and a "
                "stream does not know the rest of the window yet",
            )
        end = self._end(node, passage)
        if end is not None:
            self._ends[node] = end
            if end.kind == "last":
                self._intakes[node, index, 0] = self._last(node, end, flowing[0])
            else:
                history = max(0, end.steps - flowing[0].steps)
                self._intakes[node, index, 0] = Intake(history, 0, is_padded=True)
            return
        windows = {i: _window(node, reading) for i, reading in passage.reads.items()}
        excess = min(excess_after(node, w, self._excess[node.inputs[i]])  # type: ignore[index]
                     for i, w in windows.items())  # fmt: skip
        # What a crop at the end leaves out must not be answered: the window does not have it.
        delay = max(0, -excess, *(_wait(flowing[i], w) for i, w in windows.items()))
        self._excess[output] = excess
        steps = {i: self._steps(node, flowing[i], w.stride) for i, w in windows.items()}
        self._flows[output] = Flow(next(iter(steps.values())), delay)
        for i, window in windows.items():
            before = flowing[i]
            history = window.stride * delay - before.delay - window.offsets[0]
            unused = window.stride * (delay + 1) - before.delay - 1 - window.offsets[-1]
            self._intakes[node, index, i] = Intake(history, unused, window.offsets[0] < 0)

    def _steps(self, node: ir.Node, before: Flow, stride: int) -> int:
        if before.steps % stride:
            module = node.metadata_props.get(MODULE_KEY) or node.name
            tracks = self._timeline.tracks.values()
            total = math.lcm(*(t.reach.stride for t in tracks if t.reach is not None))
            raise UsageError(
                f"the hop is {self._hop}, but the network answers every {total} steps: "
                f"`{module}` passes on one of {stride}. The hop must be a multiple of that "
                f"total stride. Use --hop {-(-self._hop // total) * total}."
            )
        return before.steps // stride

    def _end(self, node: ir.Node, passage: Passage) -> End | None:
        """How a node ends time; None where it does not."""
        value = node.inputs[0]
        assert value is not None
        kept = last_steps(self._timeline, node) if node not in self._aligned else None
        if kept is not None:
            if not is_at_the_end(self._timeline, node):
                raise _cannot(
                    node, "it reads steps in the middle, counted from the end of the window"
                )
            return End("last", kept)
        if passage.axis is not None:
            return None
        (reading,) = passage.reads.values()
        if isinstance(reading, Picks) and len(reading.steps) == 1:
            step, length = reading.steps[0], length_of(self._timeline, value)
            if step in (-1, length - 1):
                return End("last", 1)
            raise _cannot(
                node, f"it reads step {step} of the window, and a stream has no window"
            )
        if length_of(self._timeline, value) == 1:
            return End("last", 1)
        if node.op_type not in MEANS:
            raise _cannot(
                node,
                f"it reads all steps of the window ({passage.end}), and a stream has no end. "
                "Only a mean over time can be carried along",
            )
        if self._mean_steps is None:
            raise _cannot(
                node,
                "it takes the mean over the whole window, and a stream has no end. Give "
                "--mean running for the mean since the stream began, or --mean window:W for "
                "that over the last W steps",
            )
        return End("mean", self._mean_steps)

    def _last(self, node: ir.Node, end: End, flow: Flow) -> Intake:
        """How the last steps are read, which must not depend on the end of the window."""
        value = node.inputs[0]
        assert value is not None
        if flow.delay + self._excess[value] > 0:
            raise _cannot(
                node,
                "the step that it reads looks ahead: in a window it sees the padding behind "
                "the end, and a stream has no end. Let the network answer at every step, or "
                "pad its layers in front only",
            )
        return Intake(max(0, end.steps - flow.steps), 0, is_padded=True)


def _wait(before: Flow, window: Window) -> int:
    """The delay of who reads a value through a window."""
    return -(-(before.delay + window.offsets[-1] + 1 - window.stride) // window.stride)


def _window(node: ir.Node, reading: Reading) -> Window:
    if not isinstance(reading, Window):
        raise _cannot(node, "it chooses steps of the window, and a stream has no window")
    return reading


def _cannot(node: ir.Node, why: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"the network cannot be streamed: {where(node)}: {why}.")
