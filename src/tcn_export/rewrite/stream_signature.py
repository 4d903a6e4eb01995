"""What a hop of a stream takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from tcn_export.graph import Graph, Signature, StatePair, TensorSpec
from tcn_export.timeline.schedule import Schedule


def streaming_signature(
    graph: Graph,
    schedule: Schedule,
    model: ir.Model,
    states: Sequence[StatePair],
) -> Signature:
    """What a hop takes and gives; steps that a stride has thinned out are steps too."""
    delays = {value.name: flow.delay for value, flow in schedule.flows.items()}
    axes = {value.name: schedule.axes[value] for value in schedule.flows}
    shapes = {
        value.name: tuple(n if isinstance(n, int) else str(n.value) for n in value.shape or ())
        for value in (*model.graph.inputs, *model.graph.outputs)
    }

    def spec(old: TensorSpec) -> TensorSpec:
        axis, delay = axes.get(old.name), delays.get(old.name, 0)
        return replace(old, shape=shapes[old.name], time_axis=axis, delay=delay)

    signature = graph.signature
    return Signature(
        tuple(map(spec, signature.inputs)),
        tuple(map(spec, signature.outputs)),
        tuple(states),
    )
