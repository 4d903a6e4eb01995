"""Crops that count from the end of the window: the last steps, or the end of a branch."""

from __future__ import annotations

import onnx_ir as ir

from tcn_export.timeline.analysis import Timeline
from tcn_export.timeline.passage import Window, array_of, size_of


def last_steps(timeline: Timeline, node: ir.Node) -> int | None:
    """How many steps a Slice keeps that counts from the end; None where it keeps all."""
    if node.op_type != "Slice":
        return None
    value = node.inputs[0]
    track = timeline.tracks.get(value) if value is not None else None
    starts, ends = array_of(node.inputs[1]), array_of(node.inputs[2])
    if value is None or track is None or track.axis is None or starts is None or ends is None:
        return None
    axes = array_of(node.inputs[3]) if len(node.inputs) > 3 else None
    order = [*range(len(starts))] if axes is None else [int(a) for a in axes.tolist()]
    assert value.shape is not None
    along = [i for i, a in enumerate(order) if a % len(value.shape) == track.axis]
    if not along or int(starts[along[0]]) >= 0:
        return None
    size = size_of(value, track.axis)
    kept = size_of(node.outputs[0], track.axis)
    return None if size is None or kept is None or kept == size else kept


def is_at_the_end(timeline: Timeline, node: ir.Node) -> bool:
    """Whether a Slice that counts from the end keeps every step from there on."""
    (reading,) = timeline.passages[node][0].reads.values()
    return isinstance(reading, Window) and reading.stride == 1 and reading.behind == 0


def aligned(model: ir.Model, timeline: Timeline) -> frozenset[ir.Node]:
    """Crops from the end that bring a branch to the length of another one.

    ``x[:, :, -y.shape[2]:] + y`` counts from the end, but means a crop in front: its steps
    meet those of a value that was not cropped so.
    """
    crops = [node for node in model.graph if last_steps(timeline, node) is not None]
    cropped = _from(crops)
    return frozenset(
        node
        for node in crops
        if any(
            _has_steps(timeline, value) and value not in cropped
            for reader in _readers(_from([node]))
            for value in reader.inputs
        )
    )


def _from(nodes: list[ir.Node]) -> dict[ir.Value, None]:
    """All values that depend on what these nodes give."""
    found = dict.fromkeys(value for node in nodes for value in node.outputs)
    left = list(found)
    while left:
        for use in left.pop().uses():
            new = [value for value in use.node.outputs if value not in found]
            found.update(dict.fromkeys(new))
            left += new
    return found


def _readers(values: dict[ir.Value, None]) -> dict[ir.Node, None]:
    return dict.fromkeys(use.node for value in values for use in value.uses())


def _has_steps(timeline: Timeline, value: ir.Value | None) -> bool:
    track = timeline.tracks.get(value) if value is not None else None
    return track is not None and track.axis is not None
