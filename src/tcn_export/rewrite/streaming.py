"""The streaming form of a graph: one hop of the signal in, its answers out, states carried.

    Conv(pads=[l, r])  ->  Concat(past, chunk) -> Conv(pads=[0, 0]), Slice -> present

The portable form: what every value's readers still need of it is a state, put in front of the
next hop's steps. Branches of different delay read more or less of that, and so meet. Exact:
each step is the same sum of the same terms; a state of zeros is the padding before step 0. A
value that waits for steps to come has steps before its step 0, which its readers must not see:
they are replaced by padding, as long as `stream_begun` says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from tcn_export.graph import Graph
from tcn_export.rewrite.concat_nodes import place
from tcn_export.rewrite.stream_begun import Begun
from tcn_export.rewrite.stream_form import StreamForm, finished
from tcn_export.rewrite.stream_graph import with_steps
from tcn_export.rewrite.stream_nodes import WINDOWS, padding_of
from tcn_export.timeline.analysis import Timeline
from tcn_export.timeline.schedule import Intake, Schedule


def stream_by_concat(graph: Graph, timeline: Timeline, schedule: Schedule) -> Graph:
    """Make the streaming form of the graph of a window.

    Args:
        graph: Of one window, its lengths known and its shapes inferred.
        timeline: What `timeline.analyze` gave for it.
        schedule: When each value is computed.

    Raises:
        UnsupportedModelError: A node depends on where in the window it is.
    """
    return finished(ConcatForm(graph.model, timeline, schedule), "concat", graph)


class ConcatForm(StreamForm):
    """Puts what was kept of a value in front of its new steps."""

    def __init__(self, model: ir.Model, timeline: Timeline, schedule: Schedule) -> None:
        super().__init__(model, timeline, schedule)
        self._full: dict[ir.Value, ir.Value] = {}
        self._begun = Begun(self.graph, schedule.hop)

    def build(self) -> ir.Model:
        """The model of a hop."""
        for value in self._model.graph.inputs:
            self.arrive(value, self.take(value))
        for node in self._model.graph:
            place(self, node)
        for output in self._model.graph.outputs:
            self.graph.outputs.append(self._answer(output))
        self._begun.close()
        return self.graph.model(self._model)

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
        valid = self.valid(value, intake)
        return self.graph.node("Where", [valid, steps, fill], f"{value.name}/begun")

    def valid(self, value: ir.Value, intake: Intake) -> ir.Value:
        """Which of the steps that an intake names are not before step 0 of their value."""
        return self._begun.valid(
            value, self.axis_of(value), self.schedule.flows[value], intake
        )

    def verbatim(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> None:
        """Add a node as it is, with other inputs."""
        new = ir.node(
            node.op_type, list(inputs), domain=node.domain, num_outputs=len(node.outputs)
        )
        new.attributes.update(node.attributes)
        self.finish(node, new)

    def finish(self, node: ir.Node, new: ir.Node) -> None:
        """Add a new node in the place of one; its outputs take the names."""
        self.graph.append(new, [v.name or "" for v in node.outputs], node)
        new.name = node.name
        for old, value in zip(node.outputs, new.outputs, strict=True):
            value.type = old.type
            self.arrive(old, value)

    def stand_for(self, output: ir.Value, new: ir.Value, node: ir.Node) -> None:
        """Have a value that was computed otherwise take the name and place of an output."""
        same = ir.node("Identity", [new])
        self.graph.append(same, [output.name or ""], node)
        same.outputs[0].type = output.type
        self.arrive(output, same.outputs[0])

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
