"""What becomes of nodes that compute step by step when their values have no time axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from tcn_export.rewrite.stream_nodes import cannot
from tcn_export.timeline.passage import array_of
from tcn_export.timeline.rules import ELEMENT_WISE, FIRST_INPUT, REDUCTIONS

if TYPE_CHECKING:
    from tcn_export.rewrite.streaming_ring import RingForm

Inputs = Mapping[ir.Value, ir.Value]
_WITH_AXIS = {
    "Concat": 0,
    "Hardmax": -1,
    "LayerNormalization": -1,
    "LogSoftmax": -1,
    "LpNormalization": -1,
    "Softmax": -1,
    "Split": 0,
}
"""Operators of one axis that is not time, and which it is by default."""


def flat(form: RingForm, node: ir.Node, inputs: Inputs) -> list[ir.Value] | None:
    """The outputs of a node without their time axis; None where it has to have one.

    Args:
        form: What the node is added to.
        node: Computes step by step.
        inputs: By input with a time axis, its step without one.
    """
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type in ELEMENT_WISE:
        return _element_wise(form, node, inputs)
    if node.op_type in FIRST_INPUT - {"BatchNormalization", "Dropout"}:
        return _same(form, node, inputs)
    if node.op_type in _WITH_AXIS:
        return _along(form, node, inputs)
    if node.op_type in REDUCTIONS:
        return _reduce(form, node, inputs)
    if node.op_type == "Transpose":
        return _transpose(form, node, inputs)
    if node.op_type == "MatMul":
        return _product(form, node, inputs)
    return None


def _same(
    form: RingForm,
    node: ir.Node,
    inputs: Inputs,
    attributes: Mapping[str, Any] | None = None,
    given: list[ir.Value | None] | None = None,
) -> list[ir.Value]:
    """The same operator on steps without time."""
    if given is None:
        given = [
            None if v is None else inputs[v] if v in inputs else form[v] for v in node.inputs
        ]
    new = ir.node(
        node.op_type, given, attributes, domain=node.domain, num_outputs=len(node.outputs)
    )
    for name, attribute in node.attributes.items():
        if name not in new.attributes:
            new.attributes[name] = attribute
    form.graph.append(new, [form.graph.name(f"{v.name}/step") for v in node.outputs], node)
    return list(new.outputs)


def _element_wise(form: RingForm, node: ir.Node, inputs: Inputs) -> list[ir.Value]:
    output = node.outputs[0]
    assert output.shape is not None
    # Counted from the end, as axes are matched.
    behind = len(output.shape) - form.axis_of(output)
    given: list[ir.Value | None] = []
    for value in node.inputs:
        if value is None or value in inputs:
            given.append(value if value is None else inputs[value])
            continue
        assert value.shape is not None
        axis = len(value.shape) - behind
        given.append(form[value] if axis < 0 else _dropped(form, node, value, axis))
    return _same(form, node, inputs, given=given)


def _dropped(form: RingForm, node: ir.Node, value: ir.Value, axis: int) -> ir.Value:
    """What has no time, without the axis that lies beside time."""
    assert value.shape is not None
    if value.shape[axis] != 1:
        raise cannot(node, "it has a number of its own for every step of the window")
    array = array_of(value)
    if array is not None:
        return form.graph.constant(f"{value.name}/step", np.squeeze(array, axis))
    return form.graph.node(
        "Squeeze", [form[value], form.graph.integers(axis)], f"{value.name}/step"
    )


def _along(form: RingForm, node: ir.Node, inputs: Inputs) -> list[ir.Value] | None:
    if node.op_type == "Concat" and any(v not in inputs for v in node.inputs):
        return None
    value = node.inputs[0]
    assert value is not None
    axis = node.attributes.get_int("axis", _WITH_AXIS[node.op_type])
    return _same(form, node, inputs, {"axis": _moved(form, value, axis)})


def _moved(form: RingForm, value: ir.Value, axis: int) -> int:
    """Where an axis lies when time is gone."""
    assert value.shape is not None
    axis %= len(value.shape)
    return axis - (axis > form.axis_of(value))


def _reduce(form: RingForm, node: ir.Node, inputs: Inputs) -> list[ir.Value] | None:
    value, axes = node.inputs[0], array_of(node.inputs[1]) if len(node.inputs) > 1 else None
    assert value is not None
    if axes is None:
        return None
    moved = [_moved(form, value, int(axis)) for axis in axes]
    return _same(form, node, inputs, given=[inputs[value], form.graph.integers(*moved)])


def _transpose(form: RingForm, node: ir.Node, inputs: Inputs) -> list[ir.Value]:
    value = node.inputs[0]
    assert value is not None
    assert value.shape is not None
    time = form.axis_of(value)
    order = node.attributes.get_ints("perm", [*range(len(value.shape))][::-1])
    moved = [axis - (axis > time) for axis in order if axis != time]
    if moved == sorted(moved):
        return [inputs[value]]
    return _same(form, node, inputs, {"perm": moved})


def _product(form: RingForm, node: ir.Node, inputs: Inputs) -> list[ir.Value] | None:
    """Of vectors with a matrix of constants, from either side."""
    left, right = node.inputs
    for value, other, is_left in ((left, right, True), (right, left, False)):
        array = array_of(other)
        if value not in inputs or array is None or array.ndim != 2:
            continue
        assert value is not None
        assert value.shape is not None
        rank = len(value.shape)
        if rank != 3 or form.axis_of(value) != rank - (2 if is_left else 1):
            return None
        matrix = array if is_left else array.T
        constant = form.graph.constant(f"{other.name if other else ''}/matrix", matrix)
        return _same(form, node, inputs, given=[inputs[value], constant])
    return None
