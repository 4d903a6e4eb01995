"""Convolutions over time become convolutions over images of height 1.

    Conv(x, w)   ->   Squeeze(Conv(Unsqueeze(x), w'))    (batch, channels, 1, length)

What lies between them is moved to the four-dimensional side, so that a block keeps its form
from end to end: element-wise operators, pools, and those that choose steps. Exact: the same
sums. ONNX Runtime's blocked kernels and TensorRT's accelerators take two spatial axes only;
TensorRT's parser makes ``(batch, channels, length, 1)`` of a Conv1d by itself.
(ONNX Squeeze and Unsqueeze of operator version 13, with axes as an input.)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from tcn_export.graph import Refusal
from tcn_export.rewrite.base import (
    Outcome,
    Refused,
    Rewrite,
    add_initializer,
    constant,
    pads_of,
    unused_name,
)

HEIGHT_AXIS = 2
_ELEMENT_WISE = frozenset({
    "Abs", "Add", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish",
    "Identity", "LeakyRelu", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Relu", "Selu",
    "Sigmoid", "Softplus", "Softsign", "Sqrt", "Sub", "Tanh",
})  # fmt: skip


class Conv1dToConv2d(Rewrite):
    """Give convolutions over time a second spatial axis of size 1."""

    name = "conv1d_to_conv2d"

    def call(self, model: ir.Model) -> Outcome:
        """Widen every convolution, and what reads what one gives."""
        modified, refusals = 0, []
        for node in list(model.graph):
            if node.op_type == "Conv" and node.domain == "":
                if _rank(node.inputs[1]) == 4:
                    continue
                try:
                    _widen_convolution(node)
                except Refused as refusal:
                    refusals.append(Refusal(node.name or "Conv", str(refusal)))
                    continue
            elif node.op_type == "Squeeze" and _reads_a_squeezed_value(node):
                _join_squeezes(node)
                continue
            elif node.op_type in _WIDENED_WITH_THEM and _reads_a_squeezed_value(node):
                try:
                    _WIDENED_WITH_THEM[node.op_type](node)
                except Refused:  # it reads three dimensions, as before
                    continue
            else:
                continue
            _squeeze_output(node)
            modified += 1
        return Outcome(modified, tuple(refusals))


def _widen_convolution(node: ir.Node) -> None:
    front, behind = pads_of(node)
    weight = node.inputs[1]
    if weight is None or weight.const_value is None:
        raise Refused("its weights are not a constant")
    _widen_inputs(node, (0, 1))
    kernel = weight.const_value.numpy().shape[2]
    node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", [1, kernel])
    _widen_window(node)
    node.attributes.pop("auto_pad", None)
    node.attributes["pads"] = ir.AttrInt64s("pads", [0, front, 0, behind])


def _widen_window(node: ir.Node) -> None:
    for name in ("dilations", "strides"):
        (size,) = node.attributes.get_ints(name, [1])
        # Pools know dilations in newer operator versions only, quantised ones in none.
        node.attributes.pop(name, None)
        if node.op_type == "Conv" or size > 1:
            node.attributes[name] = ir.AttrInt64s(name, [1, size])


def _widen_element_wise(node: ir.Node) -> None:
    _widen_inputs(node, range(len(node.inputs)))


def _widen_pool(node: ir.Node) -> None:
    (kernel,) = node.attributes.get_ints("kernel_shape", [0])
    if node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise Refused("it pads automatically")
    if len(node.outputs) > 1:
        raise Refused("it has several outputs")
    front, behind = node.attributes.get_ints("pads", [0, 0])
    _widen_inputs(node, (0,))
    node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", [1, kernel])
    _widen_window(node)
    node.attributes["pads"] = ir.AttrInt64s("pads", [0, front, 0, behind])


def _widen_slice(node: ir.Node) -> None:
    if len(node.inputs) < 4:
        raise Refused("it names no axes")
    axes = constant(node.inputs[3], "axes")
    moved = np.array([_moved(int(axis)) for axis in axes.ravel()], np.int64)
    _widen_inputs(node, (0,))
    assert node.graph is not None
    node.replace_input_with(3, add_initializer(node.graph, f"{node.name}/axes", moved))


def _widen_gather(node: ir.Node) -> None:
    if constant(node.inputs[1], "indices").ndim != 1:
        raise Refused("it drops the axis that it reads")
    axis = _moved(node.attributes.get_int("axis", 0))
    _widen_inputs(node, (0,))
    node.attributes["axis"] = ir.AttrInt64("axis", axis)


def _widen_pad(node: ir.Node) -> None:
    pads = constant(node.inputs[1], "pads").reshape(2, -1)
    if len(node.inputs) > 3 or pads.shape[1] != 3:
        raise Refused("it names its axes")
    wide = np.insert(pads, HEIGHT_AXIS, 0, axis=1).ravel()
    _widen_inputs(node, (0,))
    assert node.graph is not None
    node.replace_input_with(1, add_initializer(node.graph, f"{node.name}/pads.2d", wide))


def _widen_concat(node: ir.Node) -> None:
    axis = _moved(node.attributes.get_int("axis", 0))
    _widen_inputs(node, range(len(node.inputs)))
    node.attributes["axis"] = ir.AttrInt64("axis", axis)


def _moved(axis: int) -> int:
    """Where an axis of three stands among four."""
    axis %= 3
    return axis + (axis >= HEIGHT_AXIS)


def _join_squeezes(node: ir.Node) -> None:
    """A Squeeze of another axis takes the height away with it."""
    if len(node.inputs) < 2 or _is_ours(node, "Squeeze"):
        return
    axes = [_moved(int(axis)) for axis in constant(node.inputs[1], "axes").ravel()]
    _widen_inputs(node, (0,))
    assert node.graph is not None
    both = np.array(sorted([*axes, HEIGHT_AXIS]), np.int64)
    node.replace_input_with(1, add_initializer(node.graph, f"{node.name}/axes.2d", both))


def _widen_inputs(node: ir.Node, positions: range | tuple[int, ...]) -> None:
    for position in positions:
        value = node.inputs[position]
        if value is not None:
            node.replace_input_with(position, _widened(value, node))


def _widened(value: ir.Value, node: ir.Node) -> ir.Value:
    """The four-dimensional form of what ``node`` reads."""
    graph = node.graph
    assert graph is not None
    if value.const_value is not None and not value.is_graph_input():
        array = value.const_value.numpy()
        if array.ndim < 2:  # a scalar, or one value per step: broadcast as before
            return value
        name = f"{value.name}.2d"
        known = graph.initializers.get(name)
        return known or add_initializer(graph, name, np.expand_dims(array, -2))
    producer = value.producer()
    if producer is not None and _is_ours(producer, "Squeeze"):
        squeezed = producer.inputs[0]
        assert squeezed is not None
        return squeezed
    for use in value.uses():
        if _is_ours(use.node, "Unsqueeze"):
            return use.node.outputs[0]
    return _change_rank("Unsqueeze", value, node)


def _change_rank(operator: str, value: ir.Value, before: ir.Node) -> ir.Value:
    graph = before.graph
    assert graph is not None
    axes = graph.initializers.get("height_axis")
    axes = axes or add_initializer(graph, "height_axis", np.array([HEIGHT_AXIS], np.int64))
    name = f"{value.name}/{operator}"
    new = ir.node(operator, [value, axes], name=name)
    new.outputs[0].name = name
    new.outputs[0].type = value.type
    graph.insert_before(before, new)
    return new.outputs[0]


def _squeeze_output(node: ir.Node) -> None:
    """Whoever reads ``node`` gets three dimensions again, for now."""
    graph, output = node.graph, node.outputs[0]
    assert graph is not None
    axes = graph.initializers["height_axis"]
    squeeze = ir.node("Squeeze", [output, axes], name=f"{node.name}/Squeeze")
    squeezed = squeeze.outputs[0]
    squeezed.name = unused_name(graph, f"{output.name}/Squeeze")
    squeezed.type = output.type
    was_output = output.is_graph_output()
    ir.convenience.replace_all_uses_with(output, squeezed, replace_graph_outputs=True)
    squeeze.replace_input_with(0, output)
    graph.insert_after(node, squeeze)
    if was_output:
        squeezed.name, output.name = output.name, unused_name(graph, f"{output.name}/4d")
        squeezed.shape = output.shape
    output.shape = None


def _reads_a_squeezed_value(node: ir.Node) -> bool:
    """Whether an input is squeezed, and no other has but three dimensions or is constant."""
    produced = [v for v in node.inputs if v is not None and v.const_value is None]
    producers = [value.producer() for value in produced]
    return any(p is not None and _is_ours(p, "Squeeze") for p in producers) and all(
        _rank(value) == 3 or (p is not None and _is_ours(p, "Squeeze"))
        for value, p in zip(produced, producers, strict=True)
    )


def _is_ours(node: ir.Node, operator: str) -> bool:
    if node.op_type != operator or len(node.inputs) < 2:
        return False
    axes = node.inputs[1]
    return axes is not None and axes.name == "height_axis"


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


_WIDENED_WITH_THEM: dict[str, Callable[[ir.Node], None]] = {
    **dict.fromkeys(_ELEMENT_WISE, _widen_element_wise),
    **dict.fromkeys(("AveragePool", "LpPool", "MaxPool"), _widen_pool),
    "Concat": _widen_concat,
    "Gather": _widen_gather,
    "Pad": _widen_pad,
    "Slice": _widen_slice,
}
