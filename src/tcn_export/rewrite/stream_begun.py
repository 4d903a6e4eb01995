"""Which steps of a stream are not before step 0 of their value.

A value that waits for steps to come is computed before it has any. What has begun is told by
ones that move through a state of zeros, one for each step of the signal: a step of stride s is
read from every s-th of them. So all states begin as zeros, and none counts.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tcn_export.rewrite.stream_graph import StreamGraph
from tcn_export.timeline.schedule import Flow, Intake


class Begun:
    """Tells it, from a state that is there where anybody asks.

    Args:
        graph: What it is added to.
        hop: Steps of the signal that come at a time.
    """

    def __init__(self, graph: StreamGraph, hop: int) -> None:
        self._graph = graph
        self._hop = hop
        self._past: ir.Value | None = None
        self._ones: ir.Value | None = None
        self._steps = 1

    def valid(self, value: ir.Value, axis: int, flow: Flow, intake: Intake) -> ir.Value:
        """Whether a step is not before step 0, for those of a value that an intake names."""
        graph, hop = self._graph, self._hop
        stride = hop // flow.steps
        if self._ones is None:
            self._past = graph.state("started", [1, 1], ir.DataType.FLOAT)
            new = graph.constant("stream/ones", np.ones((1, hop), np.float32))
            self._ones = graph.node(
                "Concat", [self._past, new], "started/with_past", {"axis": 1}
            )
        first = stride * -(flow.delay + intake.history)
        self._steps = max(self._steps, -first)
        last = stride * (flow.steps - intake.unused - 1 - flow.delay)
        end = last + 1 - hop
        name = f"{value.name}/valid"
        ones = graph.slice(self._ones, 1, first - hop, end if end < 0 else None, name, stride)
        assert value.shape is not None
        shape = [1] * len(value.shape)
        shape[axis] = -1
        if len(shape) != 2 or axis != 1:
            ones = graph.node("Reshape", [ones, graph.integers(*shape)], name)
        half = graph.constant("stream/half", np.array(0.5, np.float32))
        return graph.node("Greater", [ones, half], name)

    def close(self) -> None:
        """Leave as many ones for the next hop as were asked for; nothing more may be asked."""
        if self._past is None or self._ones is None:
            return
        self._past.shape = ir.Shape([1, self._steps])
        kept = self._graph.slice(self._ones, 1, self._hop, None, "started/kept")
        self._graph.leave(self._past, kept)
