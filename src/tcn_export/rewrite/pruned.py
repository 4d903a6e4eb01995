"""Values that hold some of their steps: which, where, and how others read a part of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from tcn_export.rewrite.base import Refused, add_initializer, unused_name
from tcn_export.rewrite.strided import OUTSIDE, Index
from tcn_export.timeline.analysis import Timeline
from tcn_export.timeline.demand import length_of
from tcn_export.timeline.passage import Picks, Reading, Steps, Whole, Window

_TO_THE_END = 2**63 - 1


class Pruned:
    """What every value will hold, and the nodes that were added to read parts of them.

    Args:
        timeline: Of the graph as it was.
        stored: The steps that every needed value will hold, ascending.
    """

    def __init__(self, timeline: Timeline, stored: Mapping[ir.Value, Steps]) -> None:
        self._timeline = timeline
        self._stored = stored
        self._parts: dict[tuple[ir.Value, bytes], ir.Value] = {}

    def has_time(self, value: ir.Value | None) -> bool:
        """Whether a value has a time axis."""
        track = None if value is None else self._timeline.tracks.get(value)
        return track is not None and track.axis is not None

    def axis_of(self, value: ir.Value) -> int:
        """The time axis of a value that has one."""
        axis = self._timeline.tracks[value].axis
        assert axis is not None
        return axis

    def length_of(self, value: ir.Value) -> int:
        """How many steps a value had."""
        return length_of(self._timeline, value)

    def is_whole(self, value: ir.Value | None) -> bool:
        """Whether a value will hold all that it held."""
        if value is None or not self.has_time(value) or value not in self._stored:
            return True
        return len(self._stored[value]) == length_of(self._timeline, value)

    def steps_of(self, value: ir.Value) -> Steps:
        """The steps that a value will hold."""
        return self._stored[value]

    def reading_of(self, node: ir.Node, output: int, position: int) -> Reading:
        """How an output of a node reads one of its inputs."""
        return self._timeline.passages[node][output].reads[position]

    def places(self, node: ir.Node, position: int, output: int = 0) -> Index:
        """(steps of the output, taps): what is read, as places within the stored input.

        Raises:
            Refused: Every step is read, or none beside padding.
        """
        value = node.inputs[position]
        assert value is not None
        steps = self._stored[node.outputs[output]]
        reading = self.reading_of(node, output, position)
        length = length_of(self._timeline, value)
        if isinstance(reading, Window):
            read = reading.stride * steps[:, None] + np.array(reading.offsets)
        elif isinstance(reading, Picks):
            read = np.array(reading.steps, np.int64)[steps][:, None] % length
        else:
            assert isinstance(reading, Whole)
            raise Refused("it reads every step")
        held = self._stored[value]
        found = np.searchsorted(held, np.clip(read, 0, length - 1))
        inside = (read >= 0) & (read < length)
        if not inside.any():
            raise Refused("it reads nothing beside padding")
        return np.where(inside, found, OUTSIDE)

    def narrow(self, node: ir.Node, position: int, places: Index) -> Callable[[], None]:
        """Have a node read ``places`` of what its input will hold, when called."""
        value = node.inputs[position]
        assert value is not None
        axis, size = self.axis_of(value), len(self._stored[value])
        if np.array_equal(places, np.arange(size)):
            return _nothing
        return lambda: node.replace_input_with(
            position, self.part(given(node, position), axis, places, node)
        )

    def part(self, value: ir.Value, axis: int, places: Index, node: ir.Node) -> ir.Value:
        """``places`` of a value along an axis, for ``node`` to read; made once."""
        key = (value, places.tobytes())
        if key not in self._parts:
            self._parts[key] = take(value, axis, places, node)
        return self._parts[key]


def _nothing() -> None:
    pass


def given(node: ir.Node, position: int) -> ir.Value:
    """What a node reads now; other edits may have replaced it since they were planned."""
    value = node.inputs[position]
    assert value is not None
    return value


def take(value: ir.Value, axis: int, places: Index, node: ir.Node) -> ir.Value:
    """A new node in front of ``node`` that takes places along an axis, however spaced."""
    graph = node.graph
    assert graph is not None
    name = f"{value.name}/steps"
    spacing = int(places[1] - places[0]) if len(places) > 1 else 1
    if spacing > 0 and (np.diff(places) == spacing).all():
        bounds = {
            "start": int(places[0]),
            "stop": int(places[-1]) + 1,
            "axis": axis,
            "step": spacing,
        }
        inputs = [value] + [
            add_initializer(graph, f"{name}/{what}", np.array([number], np.int64))
            for what, number in bounds.items()
        ]
        new = ir.node("Slice", inputs)
    else:
        index = add_initializer(graph, f"{name}/index", places.astype(np.int64))
        new = ir.node("Gather", [value, index], {"axis": axis})
    return placed(new, name, value, node)


def placed(new: ir.Node, name: str, like: ir.Value, node: ir.Node) -> ir.Value:
    """Insert a new node in front of ``node``; its output has the type of ``like``."""
    graph = node.graph
    assert graph is not None
    new.name = new.outputs[0].name = unused_name(graph, name)
    new.outputs[0].type = like.type
    new.metadata_props.update(node.metadata_props)
    graph.insert_before(node, new)
    return new.outputs[0]


def stand_in(output: ir.Value, replacement: ir.Value, node: ir.Node) -> None:
    """Whoever read ``output`` of ``node`` reads ``replacement``, callers of the graph too."""
    if output.is_graph_output():
        identity = ir.node("Identity", [replacement])
        replacement = placed(identity, f"{output.name}/given", replacement, node)
        name, output.name = output.name, f"{output.name}/unused"
        replacement.name, replacement.shape = name, output.shape
    ir.convenience.replace_all_uses_with(output, replacement, replace_graph_outputs=True)


def replace_node(node: ir.Node, new: ir.Node) -> None:
    """Put ``new``, of one output, in the place of ``node``."""
    graph, output, replacement = node.graph, node.outputs[0], new.outputs[0]
    assert graph is not None
    new.metadata_props.update(node.metadata_props)
    name = output.name
    replacement.type, replacement.shape = output.type, output.shape
    graph.insert_before(node, new)
    ir.convenience.replace_all_uses_with(output, replacement, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    replacement.name = name
