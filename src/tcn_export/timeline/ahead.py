"""Who looks ahead first: the walk back from what looks ahead, to where it begins."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from tcn_export.timeline.analysis import Timeline
from tcn_export.timeline.position import steps_ahead


def first_to_look_ahead(
    model: ir.Model, timeline: Timeline, values: Iterable[ir.Value], signal: ir.Value
) -> list[ir.Node]:
    """The nodes that depend on later steps while nothing that they read does.

    Args:
        model: The analysed graph, its lengths known.
        timeline: What `analyze` gave for it.
        values: With a time axis; those that do not look ahead are passed over.
        signal: The input whose steps are counted.

    Returns:
        In the order of the graph. Where every step is given what was read at the end of time,
        as gates do, it is the node that ended it.
    """

    def looks_ahead(value: ir.Value | None) -> bool:
        if value is None or value not in timeline.tracks:
            return False
        has_time = timeline.tracks[value].axis is not None
        return has_time and steps_ahead(model, timeline, value, signal) > 0

    found: set[ir.Node] = set()
    seen: set[ir.Value] = set()
    waiting = [value for value in values if looks_ahead(value)]
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if value in seen or node is None:
            continue
        seen.add(value)
        before = [v for v in node.inputs if v is not None and looks_ahead(v)]
        waiting += before
        found |= _ended(timeline, node) or (set() if before else {node})
    return [node for node in model.graph if node in found]


def _ended(timeline: Timeline, node: ir.Node) -> set[ir.Node]:
    """Where time ended in front of what a node spreads over its steps."""
    tracks = [
        timeline.tracks[v] for v in node.inputs if v is not None and v in timeline.tracks
    ]
    return {end.node for track in tracks if track.axis is None for end in track.ends}
