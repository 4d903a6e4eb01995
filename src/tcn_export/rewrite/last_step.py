"""Only the steps that an output needs are computed.

Where a network is read at its last step (a fixed one, the last few, every second), most steps
of most layers reach no output. Of every value, the steps that do are known (`demand`); it then
holds these alone, in order. A dilated convolution on steps that lie a dilation apart is
a dense or a strided one; where they lie unevenly, its taps are gathered, and the convolution
steps over them. Zero padding stays: a tap in front of step 0 reads a zero, as before.

Exact: the same products and sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from tcn_export.graph import Refusal
from tcn_export.rewrite.base import Outcome, Refused, Rewrite
from tcn_export.rewrite.pruned import Pruned
from tcn_export.rewrite.pruning import pruner_of
from tcn_export.rewrite.pruning_windows import has_idle_taps
from tcn_export.timeline.analysis import End, Timeline, analyze
from tcn_export.timeline.demand import all_steps, demand
from tcn_export.timeline.passage import SAME_STEP, NotFollowed, Steps


class LastStep(Rewrite):
    """Compute the demanded steps of every value, and no others.

    Args:
        inputs: The time axis of each input of the graph, by name; None for one without.
    """

    name = "last_step"

    def __init__(self, inputs: Mapping[str, int | None]) -> None:
        self._inputs = inputs

    def call(self, model: ir.Model) -> Outcome:
        """Plan the change of every node; then make them, all or none."""
        timeline = analyze(model, self._inputs)
        try:
            stored = _stored(model, timeline, frozenset())
        except NotFollowed as refusal:
            return Outcome(0, (Refusal("the graph", str(refusal)),))
        kept: dict[ir.Node, str] = {}
        while True:  # a node that has to stay as it is may demand more of those before it
            edits, refused = _plan(model, timeline, stored)
            if not refused:
                break
            kept |= refused
            stored = _stored(model, timeline, frozenset(kept))
        for edit in edits:
            edit()
        lost = {end.node: end.refused for end in _ends(model, timeline) if end.refused}
        reasons = lost | kept or ({} if edits else _nothing_saved(model, timeline))
        refusals = [Refusal(node.name or node.op_type, why) for node, why in reasons.items()]
        return Outcome(len(edits), tuple(refusals))


def _stored(
    model: ir.Model, timeline: Timeline, kept: frozenset[ir.Node]
) -> dict[ir.Value, Steps]:
    """The steps that every value will hold."""
    stored = demand(model, timeline, kept=kept)
    for value in model.graph.inputs:  # the caller gives all of them
        if value in stored:
            stored[value] = all_steps(timeline, value)
    for node, passages in timeline.passages.items():
        if all(passage.reads.get(0) == SAME_STEP for passage in passages):
            needed = [output for output in node.outputs if output in stored]
            if len(needed) > 1:
                together = np.unique(np.concatenate([stored[output] for output in needed]))
                stored |= dict.fromkeys(needed, together)
    return stored


def _plan(
    model: ir.Model, timeline: Timeline, stored: dict[ir.Value, Steps]
) -> tuple[list[Callable[[], None]], dict[ir.Node, str]]:
    """The edits of all nodes; or those that have to stay as they are, and why."""
    edits: list[Callable[[], None]] = []
    refused: dict[ir.Node, str] = {}
    pruned = Pruned(timeline, stored)
    for node in model.graph:
        if node not in timeline.passages or not any(v in stored for v in node.outputs):
            continue
        values = (*node.inputs, *node.outputs)
        if all(pruned.is_whole(value) for value in values) and not has_idle_taps(node, pruned):
            continue
        if any(not len(stored[value]) for value in values if value in stored):
            refused[node] = "it reads nothing beside padding"
            continue
        try:
            edits.append(pruner_of(node)(node, pruned))
        except Refused as refusal:
            why = timeline.passages[node][0].refused
            refused[node] = why or str(refusal)
    return edits, refused


def _ends(model: ir.Model, timeline: Timeline) -> list[End]:
    """Where time ends in front of the outputs."""
    tracks = [timeline.tracks[v] for v in model.graph.outputs if v in timeline.tracks]
    return list(dict.fromkeys(end for track in tracks for end in track.ends))


def _nothing_saved(model: ir.Model, timeline: Timeline) -> dict[ir.Node, str]:
    """Why every step is needed: who reads them all."""
    reasons = {
        end.node: f"reads {end.how}: nothing is saved" for end in _ends(model, timeline)
    }
    for output in model.graph.outputs:
        node, track = output.producer(), timeline.tracks.get(output)
        if node is not None and track is not None and track.axis is not None:
            reasons[node] = f"every step of `{output.name}` is an output: nothing is saved"
    return reasons
