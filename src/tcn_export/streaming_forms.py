"""The streaming forms of a simplified graph, raced in the target's runtime."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tcn_export.data import Array
from tcn_export.errors import UsageError
from tcn_export.graph import BATCH, LENGTH, Graph, Signature, TensorSpec
from tcn_export.laying_out import THREADS, Choice
from tcn_export.options import AUTO, ExportOptions
from tcn_export.progress import Progress
from tcn_export.racing import cycle, race_runners
from tcn_export.targets import load_target, timed
from tcn_export.targets.base import Artifact

if TYPE_CHECKING:
    from tcn_export.rewrite.cut_means import Cut
    from tcn_export.timeline.analysis import Timeline
    from tcn_export.timeline.schedule import Schedule

_CYCLES = 6
_LONGER_HOP = 64
"""Steps that calibration takes at a time, or somewhat more: the ranges are the same."""


@dataclass(frozen=True, slots=True)
class StreamForms:
    """A graph as streams.

    Attributes:
        graphs: By form.
        refused: Why other forms are not among them.
        cuts: By node, what the means of the stream are taken of, where that is not what the
            network takes them of: see `rewrite.cut_means`.
        unreached: By output with steps, how many of the last ones that the network answers
            to a signal come only after its end.
    """

    graphs: Mapping[str, Graph]
    refused: Mapping[str, str]
    cuts: Mapping[str, Cut] = field(default_factory=dict)
    unreached: Mapping[str, int] = field(default_factory=dict)

    @property
    def signature(self) -> Signature:
        """Of one hop; the same in every form but for the states."""
        return next(iter(self.graphs.values())).signature

    @property
    def unreached_of_first(self) -> int:
        """Of the first output, which labels are for; 0 where it has no steps."""
        return self.unreached.get(self.signature.outputs[0].name, 0)


def stream_forms(graph: Graph, options: ExportOptions) -> StreamForms:
    """Make every form that is to be considered.

    Args:
        graph: Of a window, simplified, its lengths known.
        options: Hop, mean and form.

    Raises:
        UnsupportedModelError: The network cannot be streamed; the message names the node.
        UsageError: The hop does not fit the strides, or the form cannot be made.
    """
    from tcn_export.rewrite.base import Refused
    from tcn_export.rewrite.streaming import stream_by_concat
    from tcn_export.rewrite.streaming_ring import stream_by_ring
    from tcn_export.timeline.analysis import analyze
    from tcn_export.timeline.schedule import find_schedule

    timeline = analyze(graph.model, {s.name: s.time_axis for s in graph.signature.inputs})
    schedule = find_schedule(graph.model, timeline, *_asked(options))
    if options.mean is not None and all(end.kind != "mean" for end in schedule.ends.values()):
        raise UsageError(
            f"--mean {options.mean} says what a mean over time becomes, and the network takes "
            "none. Leave it out."
        )
    plan = graph, timeline, schedule
    graphs: dict[str, Graph] = {}
    refused: dict[str, str] = {}
    if options.state_form != "ring":
        graphs["concat"] = stream_by_concat(*plan)
    is_plain = options.target == "onnx" and options.precision == "float32"
    if options.state_form != "concat" and options.steps_per_hop == 1 and is_plain:
        try:
            graphs["ring"] = stream_by_ring(*plan)
        except Refused as refusal:
            refused["ring"] = str(refusal)
            if options.state_form != AUTO:
                raise UsageError(
                    f"the network cannot keep its states in rings: {refusal}. Leave "
                    "--state-form out, or give --state-form concat."
                ) from refusal
    schedule = plan[2]
    unreached = {
        value.name or "": schedule.unreached(value)
        for value in graph.model.graph.outputs
        if value in schedule.flows
    }
    return StreamForms(graphs, refused, _cuts(schedule, timeline), unreached)


def _cuts(schedule: Schedule, timeline: Timeline) -> dict[str, Cut]:
    """What the means of a stream are taken of, as far as a window's are taken of more."""
    from tcn_export.rewrite.cut_means import Cut

    found = {}
    for node, end in schedule.ends.items():
        value = node.inputs[0]
        assert value is not None
        axis, unreached = timeline.tracks[value].axis, schedule.unreached(value)
        assert axis is not None
        if end.kind == "mean" and (end.steps or unreached):
            found[node.name or ""] = Cut(axis, unreached, end.steps)
    return found


def whole_signals(signature: Signature, forms: StreamForms) -> Signature:
    """What whole signals are judged as: of answers with steps, those that a stream reaches.

    Kernels without padding and strides leave fewer answers than steps. To who made the network
    such an answer has one shape, that of his window; a stream gives them one by one.
    """
    made = forms.signature
    symbol = signature.inputs[0].shape[2]

    def whole(old: TensorSpec, new: TensorSpec) -> TensorSpec:
        if new.time_axis is None:
            return old
        shape = [*old.shape]
        if symbol == LENGTH:
            shape[new.time_axis] = LENGTH
        delay = forms.unreached[old.name]
        return replace(old, shape=tuple(shape), time_axis=new.time_axis, delay=delay)

    outputs = map(whole, signature.outputs, made.outputs)
    return replace(signature, outputs=tuple(outputs))


def longer_hop(graph: Graph, options: ExportOptions, steps: int) -> Graph:
    """The same stream with a longer hop, in which every value keeps its name.

    As long as it divides signals of so many ``steps``: the rest of a signal is not fed.
    """
    hop = options.steps_per_hop
    times = range(min(-(-_LONGER_HOP // hop), steps // hop), 0, -1)
    best = min(times, key=lambda n: steps % (n * hop), default=1)
    longer = replace(options, hop=hop * best, state_form="concat")
    return stream_forms(graph, longer).graphs["concat"]


def _asked(options: ExportOptions) -> tuple[int, int | None]:
    return options.steps_per_hop, options.mean_steps


def choose_form(
    artifacts: Mapping[str, Artifact], feeds: Mapping[str, Array], progress: Progress
) -> Choice:
    """Time a hop of every form in turns, and take the fastest.

    Args:
        artifacts: By form.
        feeds: One hop.
        progress: Told of every round.
    """
    if len(artifacts) == 1:
        return Choice(next(iter(artifacts)))
    runners = {
        name: timed(load_target(a.target).runner(a, THREADS), a.signature, feeds)
        for name, a in artifacts.items()
    }
    rounds = _CYCLES * cycle(len(runners))
    with progress.stage("Choosing the form of the states", rounds) as advance:
        timings = race_runners(runners, dict.fromkeys(runners, feeds), rounds, advance)
    return Choice(min(timings, key=lambda name: timings[name].median), {}, timings)


def describe_stream(
    artifact: Artifact, choice: Choice, forms: StreamForms, mean: str | None
) -> dict[str, Any]:
    """The manifest's entry of a stream."""
    measured: list[dict[str, Any]] = [
        {"form": name, "median_us": round(1e6 * timing.median, 1), "reason": ""}
        for name, timing in choice.timings.items()
    ]
    left_out = [
        {"form": f, "median_us": None, "reason": why} for f, why in forms.refused.items()
    ]
    return {
        "form": choice.name,
        "mean": mean,
        "unreached": forms.unreached_of_first,
        "state_bytes": sum(
            math.prod(1 if n == BATCH else int(n) for n in pair.shape)
            * np.dtype(pair.dtype).itemsize
            for pair in artifact.signature.states
        ),
        "candidates": measured + left_out,
    }
