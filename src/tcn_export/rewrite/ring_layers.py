"""Convolutions and pools of one step of a stream: products with matrices, and their like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tcn_export.rewrite.base import Refused
from tcn_export.rewrite.stream_nodes import padding_of, without_padding
from tcn_export.timeline.passage import array_of

if TYPE_CHECKING:
    from tcn_export.rewrite.ring_buffers import Lags
    from tcn_export.rewrite.streaming_ring import RingForm

_SMALL = 2**16
"""Numbers of a block-diagonal matrix up to which products with its zeros cost no more than a
convolution of its own."""


def convolve(form: RingForm, node: ir.Node) -> ir.Value:
    """One step of a convolution over time.

    Raises:
        Refused: It is no convolution over time alone, or its weights are computed.
    """
    value, bias = node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else None
    assert value is not None
    weight, lags = array_of(node.inputs[1]), form.lags(node, 0, 0)
    if weight is None or weight.ndim != 3 or form.axis_of(value) != 2:
        what = (
            "has weights that are computed" if weight is None else "has other axes than time"
        )
        raise Refused(f"`{node.name}` (Conv) {what}")
    groups = node.attributes.get_int("group", 1)
    if groups > 1 and groups * weight.size > _SMALL:
        return _by_group(form, node, value, lags)
    matrix = form.graph.constant(f"{node.name}/matrix", _matrix(weight, groups))
    inputs = [form.read(value, lags), matrix]
    if bias is not None:
        inputs.append(form[bias])
    return form.graph.node("Gemm", inputs, f"{node.outputs[0].name}/step", like=node)


def _matrix(weight: NDArray[np.generic], groups: int) -> NDArray[np.generic]:
    """The weights (outputs, inputs, kernel) as a matrix (kernel * inputs, outputs)."""
    outputs, inputs, kernel = weight.shape
    dense = np.zeros((kernel, groups, inputs, groups, outputs // groups), weight.dtype)
    for i in range(groups):
        share = weight.reshape(groups, outputs // groups, inputs, kernel)[i]
        dense[:, i, :, i, :] = share.transpose(2, 1, 0)
    return dense.reshape(kernel * groups * inputs, outputs)


def _by_group(form: RingForm, node: ir.Node, value: ir.Value, lags: Lags) -> ir.Value:
    """A convolution of the steps that it reads, which lie one behind the other."""
    graph, name = form.graph, f"{node.outputs[0].name}/step"
    steps = graph.node("Transpose", [form.read_apart(value, lags)], name, {"perm": [0, 2, 1]})
    inputs = [steps, *(form[v] for v in node.inputs[1:] if v is not None)]
    attributes = {"group": node.attributes.get_int("group", 1), "kernel_shape": [len(lags)]}
    new = graph.node("Conv", inputs, name, attributes, like=node)
    return graph.node("Squeeze", [new, graph.integers(2)], name)


def pool(form: RingForm, node: ir.Node) -> ir.Value:
    """One step of a pool over time.

    Raises:
        Refused: It pools other axes as well, or is of another kind.
        UnsupportedModelError: It counts its padding by the length of the window.
    """
    value, lags = node.inputs[0], form.lags(node, 0, 0)
    assert value is not None
    intake = form.schedule.intakes[node, 0, 0]
    without_padding(node, form.axis_of(value), intake)
    operator = {"AveragePool": "ReduceMean", "MaxPool": "ReduceMax"}.get(node.op_type)
    if operator is None or form.axis_of(value) != 2:
        raise Refused(f"`{node.name}` ({node.op_type}) has no form for single steps")
    steps = form.read_apart(value, lags)
    padding = padding_of(node)
    if intake.is_padded and padding:
        delay = form.schedule.flows[value].delay
        steps = form.padded(value, steps, [delay + lag for lag in lags], padding)
    name = f"{node.outputs[0].name}/step"
    return form.graph.node(
        operator, [steps, form.graph.integers(1)], name, {"keepdims": 0}, like=node
    )
