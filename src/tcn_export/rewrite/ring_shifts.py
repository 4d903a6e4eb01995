"""Nodes that move steps along time, or end it: in rings they read steps of another age."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from tcn_export.rewrite.base import Refused
from tcn_export.rewrite.stream_nodes import SHIFTS, padding_of
from tcn_export.timeline.passage import SAME_STEP

if TYPE_CHECKING:
    from tcn_export.rewrite.ring_buffers import Lags
    from tcn_export.rewrite.streaming_ring import RingForm


def is_shift(form: RingForm, node: ir.Node, position: int) -> bool:
    """Whether a node moves steps of an input along time, and does nothing else."""
    passages = form.timeline.passages[node]
    return node.op_type in SHIFTS and any(p.reads[position] != SAME_STEP for p in passages)


def shift(form: RingForm, node: ir.Node, position: int) -> None:
    """Have the outputs of a node be steps of another age, padding where there are none.

    Raises:
        Refused: It crops or pads other axes as well.
    """
    value = node.inputs[position]
    assert value is not None
    for i, output in enumerate(node.outputs):
        if not (output.uses() or output.is_graph_output()):
            continue
        _check_beside_time(form, node, value, output)
        lags = form.lags(node, i, position)
        step = form.read(value, lags)
        padding = padding_of(node)
        if padding and form.schedule.intakes[node, i, position].is_padded:
            since = form.schedule.flows[value].delay + lags[0]
            step = form.padded(value, step, (since,), padding)
        form.arrive(output, step)


def end_time(form: RingForm, node: ir.Node) -> None:
    """Have a node that reads the last steps read them; what it gives has no time.

    Raises:
        Refused: It crops other axes as well, or several steps that are no vectors.
    """
    value = node.inputs[0]
    assert value is not None
    lags = form.lags(node, 0, 0)
    if node.op_type == "Gather":
        form.arrive(node.outputs[0], form.read(value, lags))
        return
    steps = _in_order(form, value, lags)
    if node.op_type == "Slice":
        _check_beside_time(form, node, value, node.outputs[0])
        form.arrive(node.outputs[0], steps)
        return
    form.add(node, [steps, *(None if v is None else form[v] for v in node.inputs[1:])])


def _in_order(form: RingForm, value: ir.Value, lags: Lags) -> ir.Value:
    """Steps with their time axis where the value has it."""
    if lags == (0,):
        return form.with_time(value, form[value])
    steps = form.read_apart(value, lags)
    if form.axis_of(value) == 1:
        return steps
    return form.graph.node("Transpose", [steps], f"{value.name}/last", {"perm": [0, 2, 1]})


def _check_beside_time(
    form: RingForm, node: ir.Node, value: ir.Value, output: ir.Value
) -> None:
    if form.changes_beside_time(value, output):
        raise Refused(f"`{node.name}` ({node.op_type}) crops or pads other axes with time")
