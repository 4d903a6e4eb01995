"""What every form of a stream is built on: the window's graph, its schedule, the new graph."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

import onnx_ir as ir

from tcn_export.graph import Graph, Step
from tcn_export.rewrite.base import checked
from tcn_export.rewrite.stream_graph import StreamGraph, with_steps
from tcn_export.rewrite.stream_signature import streaming_signature
from tcn_export.timeline.analysis import Timeline
from tcn_export.timeline.schedule import Schedule


class StreamForm(ABC):
    """Builds a hop from the graph of a window, value by value."""

    def __init__(self, model: ir.Model, timeline: Timeline, schedule: Schedule) -> None:
        self._model = model
        self.timeline = timeline
        self.schedule = schedule
        names = {v.name or "" for node in model.graph for v in node.outputs}
        names |= {v.name or "" for v in model.graph.inputs} | set(model.graph.initializers)
        self.graph = StreamGraph(names)
        self._new: dict[ir.Value, ir.Value] = {}
        self._plain: dict[ir.Value, ir.Value] = {}
        """As they were computed, where readers see padding before step 0 instead."""

    @abstractmethod
    def build(self) -> ir.Model:
        """The model of a hop."""

    def take(self, value: ir.Value) -> ir.Value:
        """Add the input of a hop for one of the window's graph."""
        flow, shape = self.schedule.flows.get(value), value.shape
        if flow is not None:
            shape = ir.Shape(with_steps(value, self.axis_of(value), flow.steps))
        new = ir.Value(name=value.name, shape=shape, type=value.type)
        self.graph.inputs.append(new)
        return new

    def axis_of(self, value: ir.Value) -> int:
        """The time axis of a value that has one."""
        axis = self.timeline.tracks[value].axis
        assert axis is not None
        return axis

    def changes_beside_time(self, value: ir.Value, output: ir.Value) -> bool:
        """Whether another axis than time has another size behind a node."""
        axis = self.axis_of(value)
        assert value.shape is not None
        assert output.shape is not None
        pairs = enumerate(zip(value.shape, output.shape, strict=True))
        return any(i != axis and before != after for i, (before, after) in pairs)

    def __getitem__(self, value: ir.Value) -> ir.Value:
        """What stands for a value: its chunk, or what has no steps; a constant as it is."""
        if value not in self._new and value.const_value is not None:
            self._new[value] = self.graph.keep(value)
        return self._new[value]


def finished(form: StreamForm, name: str, window: Graph) -> Graph:
    """The graph of a hop, checked, with its signature and its history."""
    start = time.perf_counter()
    model = checked(form.build())
    states = form.graph.states
    step = Step(f"stream[{name}]", len(states), (), time.perf_counter() - start)
    signature = streaming_signature(window, form.schedule, model, states)
    return Graph(model, signature, (*window.history, step))
