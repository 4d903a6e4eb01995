"""The streaming form of a graph: one hop of the signal in, its answers out, states carried.

    Conv(pads=[l, r])  ->  Concat(past, chunk) -> Conv(pads=[0, 0]), Slice -> present

The portable form: what every value's readers still need of it is a state, put in front of the
next hop's steps. Branches of different delay read more or less of that, and so meet. Exact:
each step is the same sum of the same terms; a state of zeros is the padding before step 0. A
value that waits for steps to come has steps before its step 0, which its readers must not see:
they are replaced by padding, as long as `_Concat.valid` says.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from tcn_export.errors import UnsupportedModelError
from tcn_export.graph import Graph, Signature, Step, TensorSpec
from tcn_export.rewrite.base import checked
from tcn_export.rewrite.stream_graph import StreamGraph, with_steps
from tcn_export.rewrite.stream_means import take_mean
from tcn_export.rewrite.stream_nodes import carry_over, padding_of, without_padding
from tcn_export.timeline.analysis import Timeline
from tcn_export.timeline.passage import Window
from tcn_export.timeline.rules import SHAPE_ONLY
from tcn_export.timeline.schedule import Intake, Schedule

SHIFTS = frozenset({"Concat", "Pad", "Slice", "Split"})
"""Operators that move steps along time; a state stands for them."""
WINDOWS = frozenset({"AveragePool", "Conv", "LpPool", "MaxPool"})


def stream_by_concat(graph: Graph, timeline: Timeline, schedule: Schedule) -> Graph:
    """Make the streaming form of the graph of a window.

    Args:
        graph: Of one window, its lengths known and its shapes inferred.
        timeline: What `timeline.analyze` gave for it.
        schedule: When each value is computed.

    Raises:
        UnsupportedModelError: A node depends on where in the window it is.
    """
    start = time.perf_counter()
    form = ConcatForm(graph.model, timeline, schedule)
    model = checked(form.build())
    states = form.graph.states
    step = Step("stream[concat]", len(states), (), time.perf_counter() - start)
    signature = streaming_signature(graph, schedule, model, form.graph, timeline)
    return Graph(model, signature, (*graph.history, step))


def streaming_signature(
    graph: Graph,
    schedule: Schedule,
    model: ir.Model,
    made: StreamGraph,
    timeline: Timeline,
) -> Signature:
    """What a hop takes and gives; steps that a stride has thinned out are steps too."""
    delays = {value.name: flow.delay for value, flow in schedule.flows.items()}
    axes = {value.name: timeline.tracks[value].axis for value in schedule.flows}
    shapes = {
        value.name: tuple(n if isinstance(n, int) else str(n.value) for n in value.shape or ())
        for value in (*model.graph.inputs, *model.graph.outputs)
    }

    def spec(old: TensorSpec) -> TensorSpec:
        axis, delay = axes.get(old.name, old.time_axis), delays.get(old.name, 0)
        return replace(old, shape=shapes[old.name], time_axis=axis, delay=delay)

    signature = graph.signature
    return Signature(
        tuple(map(spec, signature.inputs)),
        tuple(map(spec, signature.outputs)),
        tuple(made.states),
    )


class ConcatForm:
    """Builds a hop from the graph of a window, value by value."""

    def __init__(self, model: ir.Model, timeline: Timeline, schedule: Schedule) -> None:
        self._model = model
        self.timeline = timeline
        self.schedule = schedule
        names = {v.name or "" for node in model.graph for v in node.outputs}
        names |= {v.name or "" for v in model.graph.inputs} | set(model.graph.initializers)
        self.graph = StreamGraph(names)
        self._new: dict[ir.Value, ir.Value] = {}
        self._full: dict[ir.Value, ir.Value] = {}
        self._plain: dict[ir.Value, ir.Value] = {}
        self._started: tuple[ir.Value, ir.Value] | None = None
        self._known_steps = 0

    def build(self) -> ir.Model:
        """The model of a hop."""
        for value in self._model.graph.inputs:
            flow = self.schedule.flows.get(value)
            shape = value.shape
            if flow is not None:
                shape = ir.Shape(with_steps(value, self.axis_of(value), flow.steps))
            new = ir.Value(name=value.name, shape=shape, type=value.type)
            self.graph.inputs.append(new)
            self.arrive(value, new)
        for node in self._model.graph:
            self._node(node)
        for output in self._model.graph.outputs:
            self.graph.outputs.append(self._answer(output))
        if self._started is not None:
            past, full = self._started
            past.shape = ir.Shape([1, self._known_steps])
            kept = self.graph.slice(full, 1, self.schedule.hop, None, "started/kept")
            self.graph.leave(past, kept)
        return self.graph.model(self._model)

    def axis_of(self, value: ir.Value) -> int:
        """The time axis of a value that has one."""
        axis = self.timeline.tracks[value].axis
        assert axis is not None
        return axis

    def __getitem__(self, value: ir.Value) -> ir.Value:
        """What stands for a value: its chunk, or what has no steps; a constant as it is."""
        if value not in self._new and value.const_value is not None:
            self._new[value] = self.graph.keep(value)
        return self._new[value]

    def arrive(self, value: ir.Value, new: ir.Value) -> None:
        """Note what stands for a value, and keep what its readers still need of it."""
        self._new[value] = self._full[value] = self._plain[value] = new
        flow = self.schedule.flows.get(value)
        if flow is None:
            return
        axis, name = self.axis_of(value), value.name or ""
        readers = list(self.schedule.readers(value))
        if flow.delay and any(
            i.is_padded and padding_of(node) == 0
            for node, i in readers
            if node.op_type in WINDOWS
        ):
            chunk = Intake(0, 0, is_padded=True)
            new = self._full[value] = self._new[value] = self.padded(value, new, chunk, 0.0)
        memory = self.schedule.memory(value)
        if not memory:
            return
        assert value.dtype is not None
        past = self.graph.state(name, with_steps(value, axis, memory), value.dtype)
        full = self.graph.node("Concat", [past, new], f"{name}/with_past", {"axis": axis})
        full.type = value.type
        self._full[value] = full
        source, first = (
            (full, flow.steps) if memory > flow.steps else (new, flow.steps - memory)
        )
        kept = source
        if first:
            kept = self.graph.slice(source, axis, first, None, f"{name}/kept")
        self.graph.leave(past, kept)

    def read(self, value: ir.Value, intake: Intake, like: ir.Node, step: int = 1) -> ir.Value:
        """The steps of a value that an intake names."""
        flow, memory = self.schedule.flows[value], self.schedule.memory(value)
        full, axis = self._full[value], self.axis_of(value)
        start, size = memory - intake.history, memory + flow.steps
        end = size - intake.unused
        if start == 0 and end == size and step == 1:
            return full
        if start == memory and end == size and step == 1:
            return self._new[value]
        last = None if end == size else end
        return self.graph.slice(full, axis, start, last, f"{value.name}/read", step, like)

    def padded(
        self, value: ir.Value, steps: ir.Value, intake: Intake, padding: float
    ) -> ir.Value:
        """The same steps, with padding for those before step 0 of their value."""
        assert value.dtype is not None
        constant = np.array(padding, value.dtype.numpy())
        fill = self.graph.constant(f"{value.name}/padding", constant)
        valid = self.valid(value, intake, 1)
        return self.graph.node("Where", [valid, steps, fill], f"{value.name}/begun")

    def valid(self, value: ir.Value, intake: Intake, step: int) -> ir.Value:
        """Which of the steps that an intake names are not before step 0 of their value.

        What began is told by ones that move through a state of zeros, one for each step of the
        signal: a step of stride s is read from every s-th of them.
        """
        flow, axis = self.schedule.flows[value], self.axis_of(value)
        hop = self.schedule.hop
        stride = hop // flow.steps
        if self._started is None:
            past = self.graph.state("started", [1, 1], ir.DataType.FLOAT)
            ones = self.graph.constant("stream/ones", np.ones((1, hop), np.float32))
            full = self.graph.node("Concat", [past, ones], "started/with_past", {"axis": 1})
            self._started = past, full
        first = stride * -(flow.delay + intake.history)
        self._known_steps = max(self._known_steps, -first, 1)
        last = stride * (flow.steps - intake.unused - 1 - flow.delay)
        end = last + 1 - hop
        name = f"{value.name}/valid"
        ones = self.graph.slice(
            self._started[1], 1, first - hop, end if end < 0 else None, name, stride * step
        )
        assert value.shape is not None
        shape = [1] * len(value.shape)
        shape[axis] = -1
        if len(shape) != 2 or axis != 1:
            ones = self.graph.node("Reshape", [ones, self.graph.integers(*shape)], name)
        half = self.graph.constant("stream/half", np.array(0.5, np.float32))
        return self.graph.node("Greater", [ones, half], name)

    def _node(self, node: ir.Node) -> None:
        flows = [i for i, v in enumerate(node.inputs) if v in self.schedule.flows]
        if not flows or node.op_type in SHAPE_ONLY:
            self._verbatim(node, [None if v is None else self[v] for v in node.inputs])
        elif node in self.schedule.ends:
            self._end(node)
        elif self._is_shift(node):
            self._shift(node, flows[0])
        elif node.op_type in WINDOWS:
            self._window(node)
        else:
            inputs = [None if v is None else self[v] for v in node.inputs]
            for i in flows:
                value = node.inputs[i]
                assert value is not None
                inputs[i] = self.read(value, self.schedule.intakes[node, 0, i], node)
            new, inputs = carry_over(self, node, inputs)
            self._finish(node, new)

    def _verbatim(self, node: ir.Node, inputs: list[ir.Value | None]) -> None:
        new = ir.node(
            node.op_type,
            inputs,
            domain=node.domain,
            num_outputs=len(node.outputs),
        )
        new.attributes.update(node.attributes)
        self._finish(node, new)

    def _finish(self, node: ir.Node, new: ir.Node) -> None:
        self.graph.append(new, [v.name or "" for v in node.outputs], node)
        new.name = node.name
        for old, value in zip(node.outputs, new.outputs, strict=True):
            value.type = old.type
            self.arrive(old, value)

    def _is_shift(self, node: ir.Node) -> bool:
        """Whether a node moves steps along time, and does nothing else."""
        if node.op_type not in SHIFTS:
            return False
        value = next(v for v in node.inputs if v in self.schedule.flows)
        assert value is not None
        if node.op_type == "Concat":
            assert node.outputs[0].shape is not None
            axis = node.attributes.get_int("axis", 0) % len(node.outputs[0].shape)
            return axis == self.axis_of(value)
        if node.op_type == "Split":
            assert value.shape is not None
            axis = node.attributes.get_int("axis", 0) % len(value.shape)
            return axis == self.axis_of(value)
        readings = self.timeline.passages[node][0].reads[0]
        assert isinstance(readings, Window)
        same = readings == Window()
        return not same

    def _shift(self, node: ir.Node, position: int) -> None:
        value = node.inputs[position]
        assert value is not None
        for i, output in enumerate(node.outputs):
            if not (output.uses() or output.is_graph_output()):
                continue
            self._same_beside_time(node, value, output)
            reading = self.timeline.passages[node][i].reads[position]
            assert isinstance(reading, Window)
            intake = self.schedule.intakes[node, i, position]
            new = self.read(value, intake, node, reading.stride)
            padding = padding_of(node, output, self.axis_of(value))
            if intake.is_padded and (self.schedule.flows[value].delay or padding):
                new = self.padded(value, new, intake, padding)
            self._stand_for(output, new, node)

    def _stand_for(self, output: ir.Value, new: ir.Value, node: ir.Node) -> None:
        """Have a value that was computed otherwise take the name and place of an output."""
        same = ir.node("Identity", [new])
        self.graph.append(same, [output.name or ""], node)
        same.outputs[0].type = output.type
        self.arrive(output, same.outputs[0])

    def _same_beside_time(self, node: ir.Node, value: ir.Value, output: ir.Value) -> None:
        axis = self.axis_of(value)
        assert value.shape is not None
        assert output.shape is not None
        for i, (before, after) in enumerate(zip(value.shape, output.shape, strict=True)):
            if i != axis and before != after:
                raise UnsupportedModelError(
                    f"the network cannot be streamed: `{node.name}` ({node.op_type}) crops or "
                    "pads other axes as well as time. Do it in two operations."
                )

    def _window(self, node: ir.Node) -> None:
        value = node.inputs[0]
        assert value is not None
        intake = self.schedule.intakes[node, 0, 0]
        steps = self.read(value, intake, node)
        padding = padding_of(node)
        if intake.is_padded and padding:
            steps = self.padded(value, steps, intake, padding)
        new = without_padding(node, self.axis_of(value), intake)
        inputs = [steps, *(None if v is None else self[v] for v in node.inputs[1:])]
        made = ir.node(node.op_type, inputs, num_outputs=len(node.outputs))
        made.attributes.update(new)
        self._finish(node, made)

    def _end(self, node: ir.Node) -> None:
        value, end = node.inputs[0], self.schedule.ends[node]
        assert value is not None
        axis, intake = self.axis_of(value), self.schedule.intakes[node, 0, 0]
        if end.kind == "mean":
            mean = take_mean(self, node, value, end.steps)
            self._verbatim(
                node, [mean, *(None if v is None else self[v] for v in node.inputs[1:])]
            )
            return
        steps = self.read(value, intake, node)
        if node.op_type == "Gather":
            self._verbatim(node, [steps, self.graph.constant("stream/last", np.array(-1))])
            return
        name = f"{value.name}/last"
        last = self.graph.slice(steps, axis, -end.steps, None, name, like=node)
        if node.op_type == "Slice":
            self._stand_for(node.outputs[0], last, node)
            return
        self._verbatim(
            node, [last, *(None if v is None else self[v] for v in node.inputs[1:])]
        )

    def _answer(self, output: ir.Value) -> ir.Value:
        """What the caller of a hop gets for an output of the window's graph."""
        new = self._plain[output] if output in self._plain else self[output]
        flow = self.schedule.flows.get(output)
        if new.name != output.name:
            node = ir.node("Identity", [new])
            self.graph.append(node, [output.name or ""], new.producer())
            new = node.outputs[0]
        new.type = output.type
        new.shape = output.shape
        if flow is not None:
            new.shape = ir.Shape(with_steps(output, self.axis_of(output), flow.steps))
        return new
