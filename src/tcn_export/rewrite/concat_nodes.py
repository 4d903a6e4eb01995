"""What becomes of every node in the portable form of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from tcn_export.errors import UnsupportedModelError
from tcn_export.rewrite.stream_means import take_mean
from tcn_export.rewrite.stream_nodes import (
    SHIFTS,
    WINDOWS,
    carry_over,
    padding_of,
    without_padding,
)
from tcn_export.timeline.passage import Window
from tcn_export.timeline.rules import SHAPE_ONLY

if TYPE_CHECKING:
    from tcn_export.rewrite.streaming import ConcatForm


def place(form: ConcatForm, node: ir.Node) -> None:
    """Add what a node of the window's graph becomes.

    Raises:
        UnsupportedModelError: It depends on where in the window it is.
    """
    flows = [i for i, v in enumerate(node.inputs) if v in form.schedule.flows]
    if not flows or node.op_type in SHAPE_ONLY:
        form.verbatim(node, [None if v is None else form[v] for v in node.inputs])
    elif node in form.schedule.ends:
        _end(form, node)
    elif _is_shift(form, node):
        _shift(form, node, flows[0])
    elif node.op_type in WINDOWS:
        _window(form, node)
    else:
        inputs = [None if v is None else form[v] for v in node.inputs]
        for i in flows:
            value = node.inputs[i]
            assert value is not None
            inputs[i] = form.read(value, form.schedule.intakes[node, 0, i], node)
        new, inputs = carry_over(form, node, inputs)
        form.finish(node, new)


def _is_shift(form: ConcatForm, node: ir.Node) -> bool:
    """Whether a node moves steps along time, and does nothing else."""
    if node.op_type not in SHIFTS:
        return False
    value = next(v for v in node.inputs if v in form.schedule.flows)
    assert value is not None
    if node.op_type == "Concat":
        assert node.outputs[0].shape is not None
        axis = node.attributes.get_int("axis", 0) % len(node.outputs[0].shape)
        return axis == form.axis_of(value)
    if node.op_type == "Split":
        assert value.shape is not None
        axis = node.attributes.get_int("axis", 0) % len(value.shape)
        return axis == form.axis_of(value)
    readings = form.timeline.passages[node][0].reads[0]
    assert isinstance(readings, Window)
    same = readings == Window()
    return not same


def _shift(form: ConcatForm, node: ir.Node, position: int) -> None:
    value = node.inputs[position]
    assert value is not None
    for i, output in enumerate(node.outputs):
        if not (output.uses() or output.is_graph_output()):
            continue
        _same_beside_time(form, node, value, output)
        reading = form.timeline.passages[node][i].reads[position]
        assert isinstance(reading, Window)
        intake = form.schedule.intakes[node, i, position]
        new = form.read(value, intake, node, reading.stride)
        padding = padding_of(node)
        if intake.is_padded and (form.schedule.flows[value].delay or padding):
            new = form.padded(value, new, intake, padding)
        form.stand_for(output, new, node)


def _same_beside_time(
    form: ConcatForm, node: ir.Node, value: ir.Value, output: ir.Value
) -> None:
    if form.changes_beside_time(value, output):
        raise UnsupportedModelError(
            f"the network cannot be streamed: `{node.name}` ({node.op_type}) crops or pads "
            "other axes as well as time. Do it in two operations."
        )


def _window(form: ConcatForm, node: ir.Node) -> None:
    value = node.inputs[0]
    assert value is not None
    intake = form.schedule.intakes[node, 0, 0]
    steps = form.read(value, intake, node)
    padding = padding_of(node)
    if intake.is_padded and padding:
        steps = form.padded(value, steps, intake, padding)
    new = without_padding(node, form.axis_of(value), intake)
    inputs = [steps, *(None if v is None else form[v] for v in node.inputs[1:])]
    made = ir.node(node.op_type, inputs, num_outputs=len(node.outputs))
    made.attributes.update(new)
    form.finish(node, made)


def _end(form: ConcatForm, node: ir.Node) -> None:
    value, end = node.inputs[0], form.schedule.ends[node]
    assert value is not None
    axis, intake = form.axis_of(value), form.schedule.intakes[node, 0, 0]
    if end.kind == "mean":
        mean = take_mean(form, node, value, end.steps)
        form.verbatim(node, [mean, *(None if v is None else form[v] for v in node.inputs[1:])])
        return
    steps = form.read(value, intake, node)
    if node.op_type == "Gather":
        form.verbatim(node, [steps, form.graph.constant("stream/last", np.array(-1))])
        return
    name = f"{value.name}/last"
    last = form.graph.slice(steps, axis, -end.steps, None, name, like=node)
    if node.op_type == "Slice":
        form.stand_for(node.outputs[0], last, node)
        return
    form.verbatim(node, [last, *(None if v is None else form[v] for v in node.inputs[1:])])
