"""A mean over time in a stream: of all steps since it began, or of the last ones.

The running mean is a sum and a count. A float32 sum of millions of steps would lose the digits
of each; what every addition rounds away is carried along beside it (Kahan 1965, "Further
remarks on reducing truncation errors", Communications of the ACM 8:40).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from tcn_export.graph import ADDS_UP_KEY
from tcn_export.rewrite.stream_graph import with_steps
from tcn_export.timeline.schedule import Intake

if TYPE_CHECKING:
    from tcn_export.rewrite.streaming import ConcatForm


def take_mean(form: ConcatForm, node: ir.Node, value: ir.Value, steps: int) -> ir.Value:
    """The mean of a value at the end of a hop, with a single step.

    Args:
        form: What the mean is added to.
        node: Took the mean of a whole window.
        value: What it read.
        steps: So many of the last steps count; 0 for all since the stream began.
    """
    with form.graph.marking(ADDS_UP_KEY):
        if steps == 0:
            return _running(form, value)
        return _of_last(form, node, value, steps)


def _of_last(form: ConcatForm, node: ir.Node, value: ir.Value, steps: int) -> ir.Value:
    flow, name = form.schedule.flows[value], value.name or ""
    intake = form.schedule.intakes[node, 0, 0]
    skipped = max(0, flow.steps - steps)
    taken = form.read(value, intake, node)
    if skipped:
        taken = form.graph.slice(taken, form.axis_of(value), skipped, None, f"{name}/last")
    read = Intake(intake.history - skipped, 0, is_padded=True)
    valid = form.valid(value, read)
    count = _sum(form, value, _as_float(form, value, valid), f"{name}/count")
    total = _sum(form, value, _only(form, value, taken, valid), f"{name}/sum")
    return form.graph.node("Div", [total, _at_least_one(form, value, count)], f"{name}/mean")


def _running(form: ConcatForm, value: ir.Value) -> ir.Value:
    flow, axis, name = form.schedule.flows[value], form.axis_of(value), value.name or ""
    graph, add = form.graph, form.graph.node
    chunk = form[value]
    new_steps = graph.constant(f"{name}/steps", np.array([flow.steps], np.int64))
    if flow.delay:
        valid = form.valid(value, Intake(0, 0, is_padded=True))
        chunk = _only(form, value, chunk, valid)
        counted = _sum(form, value, _as_float(form, value, valid), f"{name}/count")
        counted = add("Reshape", [counted, graph.integers(1)], f"{name}/count")
        new_steps = add("Cast", [counted], f"{name}/steps", {"to": ir.DataType.INT64.value})
    assert value.dtype is not None
    shape = with_steps(value, axis, 1)
    before = graph.state(f"{name}/sum", shape, value.dtype)
    lost = graph.state(f"{name}/sum_lost", shape, value.dtype)
    seen = graph.state(f"{name}/steps_seen", [1], ir.DataType.INT64)
    term = add("Sub", [_sum(form, value, chunk, f"{name}/sum"), lost], f"{name}/term")
    total = add("Add", [before, term], f"{name}/total")
    gained = add("Sub", [total, before], f"{name}/gained")
    graph.leave(before, total)
    graph.leave(lost, add("Sub", [gained, term], f"{name}/lost"))
    count = add("Add", [seen, new_steps], f"{name}/steps_seen")
    graph.leave(seen, count)
    count = add("Cast", [count], f"{name}/steps_seen", {"to": value.dtype.value})
    return add("Div", [total, _at_least_one(form, value, count)], f"{name}/mean")


def _sum(form: ConcatForm, value: ir.Value, steps: ir.Value, name: str) -> ir.Value:
    axis = form.graph.integers(form.axis_of(value))
    return form.graph.node("ReduceSum", [steps, axis], name, {"keepdims": 1})


def _only(form: ConcatForm, value: ir.Value, steps: ir.Value, valid: ir.Value) -> ir.Value:
    zero = _number(form, value, 0)
    return form.graph.node("Where", [valid, steps, zero], f"{value.name}/begun")


def _as_float(form: ConcatForm, value: ir.Value, valid: ir.Value) -> ir.Value:
    assert value.dtype is not None
    return form.graph.node("Cast", [valid], f"{value.name}/ones", {"to": value.dtype.value})


def _at_least_one(form: ConcatForm, value: ir.Value, count: ir.Value) -> ir.Value:
    """Before the first step that counts there is no mean, and no division by zero either."""
    return form.graph.node("Max", [count, _number(form, value, 1)], f"{value.name}/count")


def _number(form: ConcatForm, value: ir.Value, number: float) -> ir.Value:
    assert value.dtype is not None
    return form.graph.constant(f"stream/{number}", np.array(number, value.dtype.numpy()))
