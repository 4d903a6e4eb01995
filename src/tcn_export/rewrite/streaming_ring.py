"""The packed ring form of a graph: one step of the signal in, its answers out.

    Conv  ->  Concat(old steps, new step) -> Gemm

For a hop of one step. Values have no time axis: (batch, channels, 1) becomes (batch,
channels), a convolution the product with a matrix. All old steps are read at once from a few
ring buffers and all new ones written at once (`ring_buffers`), so that a layer is little more
than its product. Branches of different delay read steps of different age. Exact, as is the
form by `stream_by_concat`: each step is the same sum of the same terms, and rows of zeros are
the padding before step 0. A value that waits for steps to come is written as zeros until its
step 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from tcn_export.graph import Graph
from tcn_export.rewrite.base import Refused
from tcn_export.rewrite.ring_buffers import Lags, Rings
from tcn_export.rewrite.ring_layers import convolve, pool
from tcn_export.rewrite.ring_nodes import flat
from tcn_export.rewrite.ring_shifts import end_time, is_shift, shift
from tcn_export.rewrite.stream_form import StreamForm, finished
from tcn_export.rewrite.stream_graph import with_steps
from tcn_export.rewrite.stream_nodes import carry_over
from tcn_export.timeline.analysis import Timeline
from tcn_export.timeline.passage import Window
from tcn_export.timeline.rules import SHAPE_ONLY
from tcn_export.timeline.schedule import Schedule

POOLS = frozenset({"AveragePool", "LpPool", "MaxPool"})


def stream_by_ring(graph: Graph, timeline: Timeline, schedule: Schedule) -> Graph:
    """Make the packed ring form of the graph of a window.

    Args:
        graph: Of one window, its lengths known and its shapes inferred.
        timeline: What `timeline.analyze` gave for it.
        schedule: When each value is computed, one step at a time.

    Raises:
        Refused: The form does not fit a node, or the hop has several steps.
        UnsupportedModelError: A node depends on where in the window it is.
    """
    if schedule.hop != 1:
        raise Refused(f"rings take one step at a time, and the hop is {schedule.hop}")
    return finished(RingForm(graph.model, timeline, schedule), "ring", graph)


class RingForm(StreamForm):
    """Reads old steps from rings; its values have no time axis."""

    def __init__(self, model: ir.Model, timeline: Timeline, schedule: Schedule) -> None:
        super().__init__(model, timeline, schedule)
        wanted: dict[ir.Value, list[Lags]] = {}
        for node, output, position in schedule.intakes:
            value = node.inputs[position]
            assert value is not None
            wanted.setdefault(value, []).append(self.lags(node, output, position))
        self._rings = Rings(self.graph, wanted, self.axis_of)

    def build(self) -> ir.Model:
        """The model of a step."""
        for value in self._model.graph.inputs:
            self.arrive(value, self.without_time(value, self.take(value)))
        for node in self._model.graph:
            self._node(node)
        for output in self._model.graph.outputs:
            self.graph.outputs.append(self._answer(output))
        self._rings.close()
        return self.graph.model(self._model)

    def lags(self, node: ir.Node, output: int, position: int) -> Lags:
        """How old the steps of an input are that a step of an output reads."""
        intake = self.schedule.intakes[node, output, position]
        end = self.schedule.ends.get(node)
        if end is not None:
            if end.kind == "mean":
                raise Refused(f"`{node.name}` ({node.op_type}) takes a mean over time")
            return tuple(range(end.steps - 1, -1, -1))
        window = self.timeline.passages[node][output].reads[position]
        assert isinstance(window, Window)
        oldest = intake.history + window.offsets[0]
        return tuple(oldest - offset for offset in window.offsets)

    def arrive(self, value: ir.Value, new: ir.Value) -> None:
        """Note what stands for a value, and keep it for those who read it later."""
        self._plain[value] = self._new[value] = new
        flow = self.schedule.flows.get(value)
        if flow is None:
            return
        if flow.delay and any(i.is_padded for _, i in self.schedule.readers(value)):
            new = self._new[value] = self.padded(value, new, (flow.delay,), 0.0)
        self._rings.write(value, new)

    def read(self, value: ir.Value, lags: Lags) -> ir.Value:
        """Steps of a value, one beside the other: (batch, lags * width)."""
        if lags == (0,):
            return self[value]
        old = tuple(lag for lag in lags if lag)
        steps = self._rings.old(value, old)
        if len(old) == len(lags):
            return steps
        name = f"{value.name}/steps"
        return self.graph.node("Concat", [steps, self[value]], name, {"axis": 1})

    def read_apart(self, value: ir.Value, lags: Lags) -> ir.Value:
        """Steps of a value, on an axis of their own: (batch, lags, width)."""
        steps, width = self.read(value, lags), self.width(value)
        shape = self.graph.integers(-1, len(lags), width)
        return self.graph.node("Reshape", [steps, shape], f"{value.name}/apart")

    def width(self, value: ir.Value) -> int:
        """Channels of a value whose steps are vectors."""
        assert value.shape is not None
        width = [n for i, n in enumerate(value.shape) if i != self.axis_of(value)][-1]
        if len(value.shape) != 3 or not isinstance(width, int):
            raise Refused(f"the steps of `{value.name}` are no vectors of one length")
        return width

    def padded(
        self, value: ir.Value, steps: ir.Value, since: Sequence[int], padding: float
    ) -> ir.Value:
        """The same steps, with padding until ``since`` steps of the signal have come.

        Args:
            value: What the steps are of.
            steps: One step (batch, width), or several (batch, steps, width).
            since: For each of them.
            padding: In place of them.
        """
        assert value.dtype is not None
        array = np.array(since, np.int64)
        bounds = self.graph.constant(
            f"{value.name}/since", array[:, None] if array.size > 1 else array
        )
        begun = self.graph.node(
            "GreaterOrEqual", [self._rings.count, bounds], f"{value.name}/begun"
        )
        fill = self.graph.constant(
            f"{value.name}/padding", np.array(padding, value.dtype.numpy())
        )
        return self.graph.node("Where", [begun, steps, fill], f"{value.name}/padded")

    def with_time(self, value: ir.Value, step: ir.Value) -> ir.Value:
        """A step of a value, with the time axis that the value has."""
        axis = self.graph.integers(self.axis_of(value))
        return self.graph.node("Unsqueeze", [step, axis], f"{value.name}/with_time")

    def without_time(self, value: ir.Value, new: ir.Value) -> ir.Value:
        """What was computed with a time axis, without it."""
        if value not in self.schedule.flows:
            return new
        axis = self.graph.integers(self.axis_of(value))
        return self.graph.node("Squeeze", [new, axis], f"{value.name}/step")

    def _node(self, node: ir.Node) -> None:
        flows = [i for i, v in enumerate(node.inputs) if v in self.schedule.flows]
        if not flows:
            self.add(node, [None if v is None else self[v] for v in node.inputs])
        elif node.op_type in SHAPE_ONLY:
            raise Refused(f"`{node.name}` ({node.op_type}) tells sizes of a value with steps")
        elif node in self.schedule.ends:
            end_time(self, node)
        elif is_shift(self, node, flows[0]):
            shift(self, node, flows[0])
        elif node.op_type == "Conv":
            self.arrive(node.outputs[0], convolve(self, node))
        elif node.op_type in POOLS:
            self.arrive(node.outputs[0], pool(self, node))
        else:
            self._step(node)

    def _step(self, node: ir.Node) -> None:
        """A node that computes step by step; branches of different delay meet here."""
        inputs = {}
        for i, value in enumerate(node.inputs):
            if value in self.schedule.flows:
                assert value is not None
                inputs[value] = self.read(value, self.lags(node, 0, i))
        new = flat(self, node, inputs)
        if new is not None:
            for old, value in zip(node.outputs, new, strict=True):
                self.arrive(old, value)
            return
        timed = {value: self.with_time(value, step) for value, step in inputs.items()}
        given = [
            None if v is None else timed[v] if v in timed else self[v] for v in node.inputs
        ]
        made, _ = carry_over(self, node, given)
        names = [self.graph.name(f"{v.name}/with_time") for v in node.outputs]
        self.graph.append(made, names, node)
        for old, value in zip(node.outputs, made.outputs, strict=True):
            value.type = old.type
            self.arrive(old, self.without_time(old, value))

    def add(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> None:
        """A node as it is, where time has ended."""
        new = ir.node(node.op_type, inputs, domain=node.domain, num_outputs=len(node.outputs))
        new.attributes.update(node.attributes)
        self.graph.append(new, [v.name or "" for v in node.outputs], node)
        new.name = node.name
        for old, value in zip(node.outputs, new.outputs, strict=True):
            value.type = old.type
            self.arrive(old, value)

    def _answer(self, output: ir.Value) -> ir.Value:
        """What the caller of a step gets for an output of the window's graph."""
        new = self._plain[output] if output in self._plain else self[output]
        shape = output.shape
        node = None
        if output in self.schedule.flows:
            axis = self.axis_of(output)
            node = ir.node("Unsqueeze", [new, self.graph.integers(axis)])
            shape = ir.Shape(with_steps(output, axis, 1))
        elif new.name != output.name:
            node = ir.node("Identity", [new])
        if node is not None:
            self.graph.append(node, [output.name or ""], new.producer())
            new = node.outputs[0]
        new.type, new.shape = output.type, shape
        return new
