"""What becomes of single nodes in a stream: their padding, their shapes, their constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from tcn_export.errors import UnsupportedModelError
from tcn_export.rewrite.stream_form import StreamForm
from tcn_export.timeline.passage import array_of, where
from tcn_export.timeline.rules import ELEMENT_WISE
from tcn_export.timeline.schedule import Intake

SHIFTS = frozenset({"Concat", "Pad", "Slice", "Split"})
"""Operators that move steps along time; a state stands for them."""
WINDOWS = frozenset({"AveragePool", "Conv", "LpPool", "MaxPool"})
"""Operators that read several steps, and pad them."""


def padding_of(node: ir.Node) -> float:
    """What a node reads in front of step 0.

    Raises:
        UnsupportedModelError: That is no single number.
    """
    if node.op_type == "MaxPool":
        return -np.inf
    if node.op_type == "Pad":
        fill = array_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        if len(node.inputs) > 2 and node.inputs[2] is not None and fill is None:
            raise cannot(node, "what it pads with is computed at run time")
        return 0.0 if fill is None or not fill.size else float(fill.item())
    if node.op_type == "Concat":
        return _put_in_front(node)
    return 0.0


def _put_in_front(node: ir.Node) -> float:
    """The number of which all steps are made that a Concat puts in front of a signal."""
    numbers: set[float] = set()
    for value in node.inputs:
        uniform = _uniform(value)
        if uniform is None:
            break  # the signal itself; what lies behind it never comes
        numbers.add(uniform)
    if not numbers:
        return 0.0
    if len(numbers) > 1:
        raise cannot(node, "it puts steps of different numbers in front of the signal")
    return numbers.pop()


def _uniform(value: ir.Value | None) -> float | None:
    """The number that a value is made of; None where it is made of several, or computed."""
    array = array_of(value)
    if array is not None:
        numbers = np.unique(array)
        return float(numbers[0]) if len(numbers) == 1 else None
    node = None if value is None else value.producer()
    if node is None:
        return None
    if node.op_type == "Expand":
        return _uniform(node.inputs[0])
    if node.op_type == "ConstantOfShape":
        tensor = node.attributes.get_tensor("value", None)
        return 0.0 if tensor is None else float(tensor.numpy().item())
    return None


def without_padding(node: ir.Node, axis: int, intake: Intake) -> Mapping[str, ir.Attr]:
    """The attributes of a convolution or pool whose padding over time a state stands for.

    Raises:
        UnsupportedModelError: It counts or places its padding by the length of the window.
    """
    value = node.inputs[0]
    assert value is not None
    assert value.shape is not None
    i, axes = axis - 2, len(value.shape) - 2
    attributes = dict(node.attributes)
    automatic = node.attributes.get_string("auto_pad", "NOTSET")
    ceils = node.attributes.get_int("ceil_mode", 0)
    if axes > 1 and (ceils or automatic not in ("NOTSET", "VALID")):
        raise cannot(node, "it pads several axes by their length")
    counts = node.attributes.get_int("count_include_pad", 0)
    if node.op_type == "AveragePool" and intake.is_padded and not counts:
        raise cannot(node, "its first means leave the padding out. Set count_include_pad=True")
    if len(node.outputs) > 1:
        raise cannot(node, "it tells positions in the window, and a stream has no window")
    attributes.pop("auto_pad", None)
    attributes.pop("ceil_mode", None)
    pads = list(node.attributes.get_ints("pads", [0] * 2 * axes))
    pads[i] = pads[i + axes] = 0
    attributes["pads"] = ir.AttrInt64s("pads", pads)
    return attributes


def carry_over(
    form: StreamForm, node: ir.Node, inputs: Sequence[ir.Value | None]
) -> tuple[ir.Node, list[ir.Value | None]]:
    """A node that computes step by step, for the steps of a hop.

    Raises:
        UnsupportedModelError: It knows where in the window a step is.
    """
    inputs = list(inputs)
    output = node.outputs[0]
    axis, steps = form.axis_of(output), form.schedule.flows[output].steps
    if node.op_type in ("Reshape", "Expand"):
        inputs[1] = _shape(form, node, axis, steps)
    elif node.op_type == "Flatten":
        raise cannot(node, "it makes one axis of steps and others")
    elif node.op_type in ELEMENT_WISE:
        for value in node.inputs:
            _check_for_steps(form, node, value, axis, output)
    elif node.op_type in ("MatMul", "Einsum"):
        for value in node.inputs:
            is_timed = value in form.schedule.flows
            if value is not None and not is_timed and len(value.shape or ()) > 2:
                raise cannot(node, "it has weights for every step of the window")
    new = ir.node(node.op_type, inputs, domain=node.domain, num_outputs=len(node.outputs))
    new.attributes.update(node.attributes)
    return new, inputs


def _shape(form: StreamForm, node: ir.Node, axis: int, steps: int) -> ir.Value:
    """The shape that Reshape and Expand make, with the steps of a hop."""
    shape = array_of(node.inputs[1])
    output = node.outputs[0]
    if shape is None:
        raise cannot(node, "its shape is computed at run time")
    assert output.shape is not None
    sizes = shape.astype(np.int64).copy()
    place = axis - (len(output.shape) - len(sizes))  # Expand need not name axes in front
    is_one = place >= 0 and sizes[place] == 1 and node.op_type == "Reshape"
    if place >= 0 and (is_one or sizes[place] not in (-1, 0, 1)):
        sizes[place] = steps
    return form.graph.integers(*sizes.tolist())


def _check_for_steps(
    form: StreamForm, node: ir.Node, value: ir.Value | None, axis: int, output: ir.Value
) -> None:
    """Raise `UnsupportedModelError` where a constant has a number for each step."""
    if value is None or value in form.schedule.flows or value.shape is None:
        return
    assert output.shape is not None
    own = axis - len(output.shape) + len(value.shape)
    if own >= 0 and value.shape[own] != 1:
        raise cannot(node, "it has a number of its own for every step of the window")


def cannot(node: ir.Node, why: str) -> UnsupportedModelError:
    """The error for a node that cannot be streamed."""
    return UnsupportedModelError(f"the network cannot be streamed: {where(node)}: {why}.")
