"""The mean over a whole window becomes one over the steps that a stream's mean is taken of.

    Mean(x)  ->  Mean(Slice(Slice(x, end=-delay), start=-steps))

For the reference that a stream is judged by, not for what is exported: where its mean leaves
out the steps that look beyond the signal, or all but the last ones, the network itself has no
answer to compare with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from tcn_export.rewrite.base import Outcome, Rewrite, add_initializer
from tcn_export.rewrite.stream_graph import TO_THE_END


@dataclass(frozen=True, slots=True)
class Cut:
    """What a mean is taken of.

    Attributes:
        axis: Of time.
        delay: So many steps at the end are left out.
        steps: Of those before, so many of the last ones count; 0 for all.
    """

    axis: int
    delay: int
    steps: int


class CutMeans(Rewrite):
    """Take the means of fewer steps.

    Args:
        cuts: By name of the node that takes the mean.
    """

    name = "cut_means"

    def __init__(self, cuts: Mapping[str, Cut]) -> None:
        self._cuts = cuts

    def call(self, model: ir.Model) -> Outcome:
        """Cut what the nodes read; every name must be one of a node."""
        nodes = {node.name: node for node in model.graph if node.name in self._cuts}
        assert set(nodes) == set(self._cuts), "the graph has other means than the stream"
        for name, cut in self._cuts.items():
            node = nodes[name]
            if cut.delay:
                _slice(node, cut.axis, 0, -cut.delay, "complete")
            if cut.steps:
                _slice(node, cut.axis, -cut.steps, TO_THE_END, "last")
        return Outcome(len(self._cuts))


def _slice(node: ir.Node, axis: int, start: int, end: int, what: str) -> None:
    graph, value = node.graph, node.inputs[0]
    assert graph is not None
    assert value is not None
    numbers = [
        add_initializer(graph, f"{node.name}/{what}/{k}", np.array([n], np.int64))
        for k, n in (("start", start), ("end", end), ("axis", axis))
    ]
    new = ir.node("Slice", [value, *numbers], name=f"{node.name}/{what}")
    new.outputs[0].name, new.outputs[0].type = new.name, value.type
    graph.insert_before(node, new)
    node.replace_input_with(0, new.outputs[0])
