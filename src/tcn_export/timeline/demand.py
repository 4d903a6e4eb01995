"""Which steps of every value can reach the outputs: the walk back from them."""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np
import onnx_ir as ir

from tcn_export.timeline.analysis import Timeline
from tcn_export.timeline.passage import NotFollowed, Steps, Whole, size_of

ONCE: Steps = np.zeros(1, np.int64)
"""The demand for a value without a time axis: it has one step, as it were."""


def demand(
    model: ir.Model,
    timeline: Timeline,
    wanted: Mapping[ir.Value, Steps] | None = None,
    kept: Container[ir.Node] = (),
) -> dict[ir.Value, Steps]:
    """The steps of every value that are needed for the outputs; what is absent is not needed.

    Args:
        model: The analysed graph, its lengths known.
        timeline: What `analyze` gave for it.
        wanted: Steps of some outputs; by default all steps of all outputs.
        kept: Nodes that stay as they are: they compute every step from every step.

    Raises:
        NotFollowed: A length is symbolic.
    """
    needed: dict[ir.Value, Steps] = {}
    if wanted is None:
        outputs = [value for value in model.graph.outputs if value in timeline.tracks]
        wanted = {value: all_steps(timeline, value) for value in outputs}
    for output, steps in wanted.items():
        _need(needed, output, steps)
    for node in reversed(list(model.graph)):
        passages = timeline.passages.get(node, (None,) * len(node.outputs))
        for output, passage in zip(node.outputs, passages, strict=True):
            if output not in needed:
                continue
            if node in kept:
                needed[output] = all_steps(timeline, output)
            reads = {} if passage is None else passage.reads
            for position, value in enumerate(node.inputs):
                if value is None or value not in timeline.tracks:
                    continue
                if position in reads:
                    reading = Whole() if node in kept else reads[position]
                    length = length_of(timeline, value)
                    _need(needed, value, reading.read_by(needed[output], length))
                elif timeline.tracks[value].axis is None:
                    _need(needed, value, ONCE)
            for value in timeline.inside.get(node, ()):
                _need(needed, value, all_steps(timeline, value))
    return needed


def _need(needed: dict[ir.Value, Steps], value: ir.Value, steps: Steps) -> None:
    needed[value] = np.union1d(needed[value], steps) if value in needed else np.unique(steps)


def all_steps(timeline: Timeline, value: ir.Value) -> Steps:
    """All steps of a value.

    Raises:
        NotFollowed: Its length is symbolic.
    """
    return np.arange(length_of(timeline, value))


def length_of(timeline: Timeline, value: ir.Value) -> int:
    """How many steps a value has; one where it has no time axis.

    Raises:
        NotFollowed: Its length is symbolic.
    """
    axis = timeline.tracks[value].axis
    if axis is None:
        return 1
    length = size_of(value, axis)
    if length is None:
        raise NotFollowed(f"the length of `{value.name}` is symbolic")
    return length
