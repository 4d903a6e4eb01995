"""What was measured of one graph's values, carried over to an equal graph of another layout.

A layout adds nodes that hand values on: crops, other axes, one-hot convolutions. What they
give lies within what they take. Everything else has the name it had, but for outputs of the
graph: their name goes to the node that was added last, and what it takes is told by what
it gives. It holds more only where channels were filled up, and nobody reads those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import onnx_ir as ir

_HANDS_ON = frozenset({
    "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze",
})  # fmt: skip

T = TypeVar("T")


def carried(measured: Mapping[str, T], model: ir.Model) -> dict[str, T]:
    """What is known of the values of ``model``, by name.

    Args:
        measured: By name of the values of an equal graph.
        model: Of another layout.
    """
    known = dict(measured)
    handing = [node for node in model.graph if node.inputs and _hands_on(node)]
    for node in handing:
        source = _name(node.inputs[0])
        for output in node.outputs if source in known else ():
            known.setdefault(_name(output), known[source])
    for node in reversed(handing):
        if _name(node.outputs[0]) in known:
            known.setdefault(_name(node.inputs[0]), known[_name(node.outputs[0])])
    return known


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""


def _hands_on(node: ir.Node) -> bool:
    return node.op_type in _HANDS_ON or (node.op_type == "Conv" and _is_one_hot(node))


def _is_one_hot(node: ir.Node) -> bool:
    """Whether a convolution gives, in every channel, one step of the same channel."""
    weight = node.inputs[1]
    if len(node.inputs) > 2 or weight is None or weight.const_value is None:
        return False
    array = weight.const_value.numpy()
    if array.shape[1] != 1 or node.attributes.get_int("group", 1) != len(array):
        return False
    kernels = array.reshape(len(array), -1)
    ones, others = (kernels == 1).sum(axis=1), np.count_nonzero(kernels, axis=1)
    return bool((ones == 1).all() and (others == 1).all())
