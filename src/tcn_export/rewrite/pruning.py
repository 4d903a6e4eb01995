"""What becomes of each operator when values hold some of their steps only.

Every pruner plans the change of one node and returns it, to be made once all others are
planned; or it raises `Refused`, and the node goes on reading every step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from tcn_export.rewrite.base import Refused, add_initializer, constant
from tcn_export.rewrite.pruned import Pruned, given, placed, replace_node, stand_in
from tcn_export.rewrite.pruning_windows import (
    prune_convolution,
    prune_pool,
    refuse_several_outputs,
)
from tcn_export.rewrite.strided import OUTSIDE, Index
from tcn_export.timeline.passage import SAME_STEP
from tcn_export.timeline.rules import ELEMENT_WISE, FIRST_INPUT, POOLS, REDUCTIONS

Edit = Callable[[], None]
Pruner = Callable[[ir.Node, Pruned], Edit]


def pruner_of(node: ir.Node) -> Pruner:
    """How to prune a node.

    Raises:
        Refused: Nobody knows.
    """
    if node.op_type not in _PRUNERS or node.domain not in ("", "ai.onnx"):
        raise Refused(f"it reads every step ({node.op_type})")
    return _PRUNERS[node.op_type]


def _step_by_step(node: ir.Node, pruned: Pruned) -> Edit:
    """Operators whose every step is computed from the same step of their inputs."""
    edits = [_constant_steps(node, i, pruned) for i in range(len(node.inputs))]
    for position, value in enumerate(node.inputs):
        if pruned.has_time(value):
            places = pruned.places(node, position)
            assert places.shape[1] == 1
            edits.append(pruned.narrow(node, position, places[:, 0]))
    return lambda: _all(edits)


def _all(edits: list[Edit]) -> None:
    for edit in edits:
        edit()


def _constant_steps(node: ir.Node, position: int, pruned: Pruned) -> Edit:
    """A constant with a number for each step loses those of the steps that are dropped."""
    value, output = node.inputs[position], node.outputs[0]
    if value is None or pruned.has_time(value) or value.shape is None or output.shape is None:
        return lambda: None
    axis = pruned.axis_of(output) - len(output.shape) + len(value.shape)
    if node.op_type not in ELEMENT_WISE or axis < 0 or value.shape[axis] == 1:
        return lambda: None
    array = constant(value, "other input, with a number for each step,")
    kept = np.take(array, pruned.steps_of(output), axis=axis)

    def edit() -> None:
        assert node.graph is not None
        new = add_initializer(node.graph, f"{value.name}/steps", kept)
        node.replace_input_with(position, new)

    return edit


def _along(node: ir.Node, pruned: Pruned) -> Edit:
    """Operators over other axes, whose constants have no steps."""
    if node.op_type != "Split":
        refuse_several_outputs(node)
    if node.op_type in ("MatMul", "Einsum"):
        for value in node.inputs:
            if not pruned.has_time(value) and (value is None or len(value.shape or ()) > 2):
                raise Refused("it has weights for every step")
    return _step_by_step(node, pruned)


def _shift(node: ir.Node, pruned: Pruned) -> Edit:
    """Slice, Pad, Gather, Split, Concat along time: they choose steps or add constants."""
    (position,) = (i for i, value in enumerate(node.inputs) if pruned.has_time(value))
    edits = []
    for i, output in enumerate(node.outputs):
        if output.uses() or output.is_graph_output():
            places = pruned.places(node, position, i)[:, 0]
            edits.append(_choose(node, pruned, position, output, places))
    return lambda: _all(edits)


def _choose(
    node: ir.Node, pruned: Pruned, position: int, output: ir.Value, places: Index
) -> Edit:
    inside = np.flatnonzero(places != OUTSIDE)
    if not len(inside):
        raise Refused("none of its steps comes from the signal")
    front, behind = int(inside[0]), len(places) - 1 - int(inside[-1])
    if len(inside) != len(places) - front - behind:
        raise Refused("constant steps lie between others")
    if node.op_type == "Concat" and (front or behind):
        raise Refused("some of the steps that it adds are needed")
    value = node.inputs[position]
    assert value is not None
    axis, held = pruned.axis_of(value), len(pruned.steps_of(value))

    def edit() -> None:
        chosen = given(node, position)
        if not np.array_equal(places[inside], np.arange(held)):
            chosen = pruned.part(chosen, axis, places[inside], node)
        if front or behind:
            chosen = _padded(node, chosen, axis, front, behind)
        stand_in(output, chosen, node)

    return edit


def _padded(node: ir.Node, value: ir.Value, axis: int, front: int, behind: int) -> ir.Value:
    graph, output = node.graph, node.outputs[0]
    assert graph is not None
    assert output.shape is not None
    pads = np.zeros((2, len(output.shape)), np.int64)
    pads[:, axis] = front, behind
    counts = add_initializer(graph, f"{node.name}/pads", pads.ravel())
    fill = [node.inputs[2]] if len(node.inputs) > 2 else []
    return placed(ir.node("Pad", [value, counts, *fill]), f"{node.name}/padded", value, node)


def _gather(node: ir.Node, pruned: Pruned) -> Edit:
    """Gather of several steps keeps a time axis; of one step it ends time."""
    axis = node.attributes.get_int("axis", 0) % len(given(node, 0).shape or ())
    if pruned.has_time(node.outputs[0]):
        if axis == pruned.axis_of(given(node, 0)):
            return _shift(node, pruned)
        return _along(node, pruned)
    place, held = int(pruned.places(node, 0)[0, 0]), len(pruned.steps_of(given(node, 0)))

    def choose() -> None:
        assert node.graph is not None
        index = np.array(place, np.int64)
        node.replace_input_with(1, add_initializer(node.graph, f"{node.name}/step", index))

    def drop_the_axis() -> None:
        assert node.graph is not None
        axes = add_initializer(node.graph, f"{node.name}/axis", np.array([axis], np.int64))
        squeeze = ir.node("Squeeze", [node.inputs[0], axes], name=node.name)
        replace_node(node, squeeze)

    return choose if held > 1 else drop_the_axis


def _concat(node: ir.Node, pruned: Pruned) -> Edit:
    axis = pruned.axis_of(node.outputs[0])
    assert node.outputs[0].shape is not None
    if node.attributes.get_int("axis", 0) % len(node.outputs[0].shape) == axis:
        return _shift(node, pruned)
    if not all(pruned.has_time(value) for value in node.inputs):
        raise Refused("one of its inputs does not come from the signal")
    return _step_by_step(node, pruned)


def _slice(node: ir.Node, pruned: Pruned) -> Edit:
    """Slice and Split: along time they choose steps, along other axes they keep them."""
    passages = [pruned.reading_of(node, i, 0) for i in range(len(node.outputs))]
    if all(reading == SAME_STEP for reading in passages) and _same_length(node, pruned):
        return _along(node, pruned)
    if _changes_other_axes(node, pruned.axis_of(given(node, 0))):
        raise Refused("it crops or pads other axes as well as time")
    return _shift(node, pruned)


def _changes_other_axes(node: ir.Node, time: int) -> bool:
    """Whether the size of an axis changes that is not time."""
    before, after = given(node, 0).shape, node.outputs[0].shape
    assert before is not None
    assert after is not None
    return any(before[axis] != after[axis] for axis in range(len(before)) if axis != time)


def _same_length(node: ir.Node, pruned: Pruned) -> bool:
    return all(pruned.length_of(v) == pruned.length_of(given(node, 0)) for v in node.outputs)


def _reshape(node: ir.Node, pruned: Pruned) -> Edit:
    """Reshape and Expand: the length in the shape that they make becomes that of the rest."""
    if node.op_type == "Flatten":
        raise Refused("it reads every step")
    output = node.outputs[0]
    shape = constant(node.inputs[1], "shape").copy()
    axis = pruned.axis_of(output)
    assert output.shape is not None
    behind = len(output.shape) - len(shape)  # Expand: axes in front need not be named
    if axis < behind:
        return _step_by_step(node, pruned)
    if shape[axis - behind] not in (-1, 0, 1):
        shape[axis - behind] = len(pruned.steps_of(output))
    elif shape[axis - behind] == 0:
        raise Refused("its shape takes the length over from its input")
    keep = _step_by_step(node, pruned)

    def edit() -> None:
        keep()
        assert node.graph is not None
        node.replace_input_with(1, add_initializer(node.graph, f"{node.name}/shape", shape))

    return edit


_PRUNERS: dict[str, Pruner] = {
    **dict.fromkeys(ELEMENT_WISE | FIRST_INPUT, _step_by_step),
    **dict.fromkeys(
        (
            "DequantizeLinear", "Einsum", "Gemm", "Hardmax", "LayerNormalization",
            "LogSoftmax", "LpNormalization", "MatMul", "QuantizeLinear", "RMSNormalization",
            "Softmax", "Squeeze", "Transpose", "Unsqueeze",
        ),
        _along,
    ),
    **dict.fromkeys(REDUCTIONS, _along),
    **dict.fromkeys(POOLS, prune_pool),
    **dict.fromkeys(("Slice", "Split"), _slice),
    **dict.fromkeys(("Reshape", "Expand", "Flatten"), _reshape),
    "Concat": _concat,
    "Conv": prune_convolution,
    "Gather": _gather,
    "Pad": _slice,
}  # fmt: skip
