"""Shapes that nodes compute at run time become constants where only the batch is open.

    Reshape(x, Concat(Shape(x)[0], 4, 5, 64))   ->   Reshape(x, [0, 4, 5, 64])

PyTorch asks every input for its batch, and so hides from all who read the graph that nothing
else of the shape is open.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

Sizes = list[int | ir.SymbolicDim]

_TAKEN_OVER, _WHAT_IS_LEFT = 0, -1
_AS_IT_IS = 1
"""What Reshape and Expand read as: the size of the input, of the rest; of the input again."""


def settle_shapes(model: ir.Model) -> None:
    """Write what is known of the shapes that Reshape and Expand make, in place.

    Args:
        model: With inferred shapes.
    """
    for node in list(model.graph):
        if node.domain or node.op_type not in ("Reshape", "Expand"):
            continue
        value, output = node.inputs[0], node.outputs[0]
        if value is None or value.shape is None or output.shape is None:
            continue
        taken, made = list(value.shape), list(output.shape)
        sizes = _reshaped(taken, made) if node.op_type == "Reshape" else _spread(taken, made)
        if sizes is None:
            continue
        shape = np.array(sizes, np.int64)
        new = ir.node("Constant", [], {"value": ir.tensor(shape)})
        new.outputs[0].shape = ir.Shape([len(sizes)])
        new.outputs[0].type = ir.TensorType(ir.DataType.INT64)
        new.metadata_props.update(node.metadata_props)
        model.graph.insert_before(node, new)
        node.replace_input_with(1, new.outputs[0])
        if node.op_type == "Reshape":
            node.attributes.pop("allowzero", None)
            if _TAKEN_OVER in sizes:
                made[sizes.index(_TAKEN_OVER)] = taken[sizes.index(_TAKEN_OVER)]
                output.shape = ir.Shape(made)
    for clean in (
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    ):
        clean(model)


def _reshaped(taken: Sizes, made: Sizes) -> list[int] | None:
    """The shape for a Reshape; None where more than one size is open, or one is zero."""
    open_axes = [axis for axis, size in enumerate(made) if not isinstance(size, int)]
    if len(open_axes) != 1 or 0 in made or 0 in taken:
        return None
    (axis,) = open_axes
    sizes = [size if isinstance(size, int) else _WHAT_IS_LEFT for size in made]
    if axis < len(taken) and not isinstance(taken[axis], int):
        is_batch = axis == 0 and _product(taken[1:]) == _product(made[1:]) is not None
        if is_batch or _are_same(taken[axis], made[axis]):
            sizes[axis] = _TAKEN_OVER
    return sizes


def _spread(taken: Sizes, made: Sizes) -> list[int] | None:
    """The shape for an Expand; None where an open size is not that of the input."""
    ones: Sizes = [1] * (len(made) - len(taken))
    sizes = []
    for before, after in zip([*ones, *taken], made, strict=True):
        if not isinstance(after, int) and not _are_same(before, after):
            return None
        sizes.append(after if isinstance(after, int) else _AS_IT_IS)
    return sizes


def _are_same(one: int | ir.SymbolicDim, other: int | ir.SymbolicDim) -> bool:
    return (
        isinstance(one, ir.SymbolicDim)
        and isinstance(other, ir.SymbolicDim)
        and one.value is not None
        and one.value == other.value
    )


def _product(sizes: Sizes) -> int | None:
    known = [size for size in sizes if isinstance(size, int)]
    return math.prod(known) if len(known) == len(sizes) else None
