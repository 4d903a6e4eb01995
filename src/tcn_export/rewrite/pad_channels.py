"""Channels are filled up with zeros to a multiple of a block.

    Conv(x, w, b)   ->   Conv(x', [w 0; 0 0], [b 0])    x' has channels that are new

ONNX Runtime's blocked kernels (NCHWc) compute 8 or 16 channels at once; other numbers leave
the blocked layout. Exact: what is new meets zero weights wherever channels are mixed. So only
operators that keep it finite may lie between.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tcn_export.graph import Refusal
from tcn_export.rewrite.base import Outcome, Refused, Rewrite, add_initializer, constant

Array = NDArray[np.generic]

_FINITE = frozenset({
    "Abs", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish",
    "Identity", "LeakyRelu", "Mish", "Neg", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign",
    "Sqrt", "Swish", "Tanh",
})  # fmt: skip
"""Operators of one value that are finite where it is zero."""
_BINARY = {"Add": 0.0, "Sub": 0.0, "Max": 0.0, "Min": 0.0, "PRelu": 0.0, "Mul": 1.0}
"""Operators of two values, finite where both are; and what fills a constant up."""
_SPATIAL = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
_CHOOSING = frozenset({"Gather", "Pad", "Slice", "Squeeze", "Unsqueeze"})
_MEANS = frozenset({"ReduceMax", "ReduceMean", "ReduceSum"})
_CHANNELS = 1


class PadChannels(Rewrite):
    """Fill channels up between convolutions.

    Args:
        block: Channels that a kernel computes at once.
    """

    name = "pad_channels"

    def __init__(self, block: int = 16) -> None:
        self._block = block

    def call(self, model: ir.Model) -> Outcome:
        """Fill up what convolutions give, as far as those who read it can bear it."""
        padded: dict[ir.Value, int] = {}
        modified, refusals = 0, []
        for node in list(model.graph):
            if node.op_type == "Conv" and node.domain == "":
                try:
                    modified += _pad_convolution(node, padded, self._block)
                except Refused as refusal:
                    refusals.append(Refusal(node.name or "Conv", str(refusal)))
                    _crop_inputs(node, padded)
            elif any(value in padded for value in node.inputs):
                _carry_or_crop(node, padded)
        _crop_outputs(model.graph, padded)
        return Outcome(modified, tuple(refusals))


def _pad_convolution(node: ir.Node, padded: dict[ir.Value, int], block: int) -> int:
    """Take padded channels, and give them; 1 where the convolution changed."""
    given = padded.get(_value(node, 0), 0)
    weight = constant(node.inputs[1], "weight")
    if node.attributes.get_int("group", 1) != 1:
        raise Refused("its channels are in groups")
    bias = None if len(node.inputs) < 3 else node.inputs[2]
    more = -weight.shape[0] % block
    if not given and not more:
        return 0
    offsets = None if bias is None else constant(bias, "bias")
    _replace(node, 1, _filled(weight, {0: more, 1: given}))
    if offsets is not None:
        _replace(node, 2, _filled(offsets, {0: more}))
    if more:
        padded[node.outputs[0]] = more
    return 1


def _carry_or_crop(node: ir.Node, padded: dict[ir.Value, int]) -> None:
    """A node that reads padded channels gives them on, or takes them off."""
    try:
        more = _carried(node, padded)
    except Refused:
        _crop_inputs(node, padded)
        return
    if more:
        padded[node.outputs[0]] = more


def _carried(node: ir.Node, padded: dict[ir.Value, int]) -> int:
    """The new channels that a node gives; 0 where it ends them.

    Raises:
        Refused: It cannot bear them.
    """
    more = max(padded.get(value, 0) for value in node.inputs if value is not None)
    rank = len(_value(node, 0).shape or ())
    if node.op_type in _FINITE or node.op_type in _SPATIAL:
        return more
    if node.op_type in _BINARY:
        _fill_operands(node, padded)
        return more
    if node.op_type in _MEANS and len(node.inputs) > 1:
        axes = {int(a) % rank for a in constant(node.inputs[1], "axes").ravel()}
        if _CHANNELS not in axes:
            return more
    if node.op_type in _CHOOSING and _is_beside_channels(node, rank):
        return more
    if node.op_type == "Gemm" and _value(node, 0) in padded:
        _fill_gemm(node, more)
        return 0
    raise Refused("it mixes channels")


def _is_beside_channels(node: ir.Node, rank: int) -> bool:
    """Whether a node works on axes behind the channels."""
    if node.op_type == "Gather":
        return node.attributes.get_int("axis", 0) % rank > _CHANNELS
    if node.op_type == "Pad":
        if len(node.inputs) > 3:
            return False
        return not constant(node.inputs[1], "pads").reshape(2, -1)[:, : _CHANNELS + 1].any()
    position = 3 if node.op_type == "Slice" else 1
    if len(node.inputs) <= position:
        return False
    axes = constant(node.inputs[position], "axes").ravel()
    return all(int(axis) % rank > _CHANNELS for axis in axes)


def _fill_operands(node: ir.Node, padded: dict[ir.Value, int]) -> None:
    """Both operands get as many channels, or have one number for all of them."""
    computed = [v for v in node.inputs if v is not None and _is_computed(v)]
    rank = max(len(value.shape or ()) for value in node.inputs if value is not None)
    (more, *others) = {padded.get(value, 0) for value in computed}
    if others or len({_channels_of(value, rank) for value in computed}) > 1:
        raise Refused("its inputs have different numbers of channels")
    fillings: list[tuple[int, Array]] = []
    for position, value in enumerate(node.inputs):
        assert value is not None
        if _is_computed(value):
            continue
        array = constant(value, "other input")
        axis = array.ndim - rank + _CHANNELS
        if axis >= 0 and array.shape[axis] != 1:
            filled = _filled(array, {axis: more}, _BINARY[node.op_type])
            fillings.append((position, filled))
    for position, filled in fillings:
        _replace(node, position, filled)


def _channels_of(value: ir.Value, rank: int) -> object:
    """How many channels a value had, beside others of ``rank`` axes."""
    axis = _CHANNELS - rank + len(value.shape or ())
    return None if axis < 0 or value.shape is None else value.shape[axis]


def _is_computed(value: ir.Value) -> bool:
    return value.const_value is None or value.is_graph_input()


def _fill_gemm(node: ir.Node, more: int) -> None:
    if node.attributes.get_int("transA", 0):
        raise Refused("it is transposed")
    weight = constant(node.inputs[1], "weight")
    axis = 1 if node.attributes.get_int("transB", 0) else 0
    _replace(node, 1, _filled(weight, {axis: more}))


def _filled(array: Array, more: dict[int, int], filling: float = 0.0) -> Array:
    behind = [(0, more.get(axis, 0)) for axis in range(array.ndim)]
    return np.pad(array, behind, constant_values=array.dtype.type(filling))


def _replace(node: ir.Node, position: int, array: Array) -> None:
    value = _value(node, position)
    assert node.graph is not None
    new = add_initializer(node.graph, f"{value.name}/filled", array)
    node.replace_input_with(position, new)


def _crop_inputs(node: ir.Node, padded: dict[ir.Value, int]) -> None:
    """Have a node read the channels that there were."""
    for position, value in enumerate(node.inputs):
        if value is not None and value in padded:
            node.replace_input_with(position, _cropped(value, padded, node))


def _cropped(value: ir.Value, padded: dict[ir.Value, int], before: ir.Node) -> ir.Value:
    graph = before.graph
    assert graph is not None
    for use in value.uses():
        if use.node.name == f"{value.name}/cropped":
            return use.node.outputs[0]
    bounds = {"start": 0, "stop": -padded[value], "axis": _CHANNELS}
    inputs = [
        add_initializer(graph, f"{value.name}/cropped/{what}", np.array([number], np.int64))
        for what, number in bounds.items()
    ]
    crop = ir.node("Slice", [value, *inputs], name=f"{value.name}/cropped")
    crop.outputs[0].name, crop.outputs[0].type = crop.name, value.type
    graph.insert_before(before, crop)
    return crop.outputs[0]


def _crop_outputs(graph: ir.Graph, padded: dict[ir.Value, int]) -> None:
    """The graph gives what it gave."""
    for i, output in enumerate(graph.outputs):
        if output in padded:
            name, output.name = output.name, f"{output.name}/filled"
            last = graph[-1]
            cropped = _cropped(output, padded, last)
            crop = cropped.producer()
            assert crop is not None
            graph.remove(crop)
            graph.append(crop)
            cropped.name, cropped.shape = name, output.shape
            graph.outputs[i] = cropped


def _value(node: ir.Node, position: int) -> ir.Value:
    value = node.inputs[position]
    assert value is not None
    return value
