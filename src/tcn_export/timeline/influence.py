"""Which steps of the outputs may move when steps of the signal do: `demand` the other way."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from tcn_export.timeline.analysis import Timeline
from tcn_export.timeline.demand import length_of
from tcn_export.timeline.passage import Moved


def influence(
    model: ir.Model, timeline: Timeline, moved: Mapping[ir.Value, Moved]
) -> dict[ir.Value, Moved]:
    """The steps of every output that depend on a step that moved.

    Args:
        model: The analysed graph, its lengths known.
        timeline: What `analyze` gave for it.
        moved: Of the inputs: which steps move, in several cases at once.

    Returns:
        For every output that depends on them, (cases, steps); without a time axis it has one
        step, as it were.

    Raises:
        NotFollowed: A length is symbolic.
    """
    found = dict(moved)
    last_reader = {value: node for node in model.graph for value in node.inputs}
    for node in model.graph:
        passages = timeline.passages.get(node, (None,) * len(node.outputs))
        for output, passage in zip(node.outputs, passages, strict=True):
            if output not in timeline.tracks:
                continue
            length = length_of(timeline, output)
            reads = {} if passage is None else passage.reads
            arriving = []
            for position, value in enumerate(node.inputs):
                if value is None or value not in found:
                    continue
                if position in reads:
                    arriving.append(reads[position].moved_by(found[value], length))
                elif timeline.tracks[value].axis is None:
                    arriving.append(np.repeat(found[value], length, axis=1))
            if arriving:
                found[output] = np.logical_or.reduce(arriving)
        for value in {v for v in node.inputs if v is not None and last_reader[v] is node}:
            if not value.is_graph_output():
                found.pop(value, None)  # many cases of many steps would fill the memory
    return {value: found[value] for value in model.graph.outputs if value in found}
