"""A crop behind a padded convolution becomes less padding.

PyTorch writes a causal convolution as one that pads both sides by (kernel - 1) * dilation and
cuts the future off again. The steps cut off need not be computed in the first place:

    Conv(pads=[p, q], stride=s) -> Slice(a steps off the front, b off the end)
    Conv(pads=[p - a*s, q - b*s])

Exact: each step that remains is the same sum. It needs p >= a*s and q >= b*s, since a
convolution cannot crop its input; other crops are refused.
"""

from __future__ import annotations

import onnx_ir as ir

from tcn_export.rewrite.base import (
    NodeRewrite,
    Refused,
    bypass,
    constant,
    only_consumer_of,
    pads_of,
    set_pads,
)

_TIME_AXIS = 2
_UNBOUNDED = 2**62
"""An end at or above this means "to the end", however long the input is."""


class CropToPadding(NodeRewrite):
    """Turn ``Conv -> Slice`` on the time axis into a convolution that pads less."""

    name = "crop_to_padding"

    def is_candidate(self, node: ir.Node) -> bool:
        """Every Slice that reads a 1-D convolution."""
        producer = (
            node.inputs[0].producer() if node.op_type == "Slice" and node.inputs[0] else None
        )
        return producer is not None and producer.op_type == "Conv"

    def apply(self, node: ir.Node) -> None:
        """Merge the crop ``node`` into the convolution in front of it."""
        data = node.inputs[0]
        assert data is not None
        conv = data.producer()
        assert conv is not None
        front, back = _cropped_steps(node, data)
        only_consumer_of(data, node)
        pad_front, pad_behind = pads_of(conv)
        stride = conv.attributes.get_ints("strides", [1])[0]
        pad_front, pad_behind = pad_front - front * stride, pad_behind - back * stride
        if pad_front < 0 or pad_behind < 0:
            raise Refused(
                f"it crops {front} steps in front and {back} behind, more than `{conv.name}` "
                "pads"
            )
        set_pads(conv, pad_front, pad_behind)
        bypass(node, data)


def _cropped_steps(node: ir.Node, data: ir.Value) -> tuple[int, int]:
    """How many steps a Slice (ONNX operator version 13) takes off the front and the end."""
    starts, ends = (
        constant(node.inputs[i], w).tolist() for i, w in ((1, "start"), (2, "end"))
    )
    axes = (
        constant(node.inputs[3], "axes").tolist()
        if len(node.inputs) > 3
        else [*range(len(starts))]
    )
    steps = (
        constant(node.inputs[4], "step").tolist()
        if len(node.inputs) > 4
        else [1] * len(starts)
    )
    front = back = 0
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = data.shape[axis] if data.shape is not None else None
        if step != 1:
            raise Refused(f"it takes every {step}th step")
        before = _from_front(start, size)
        after = _from_end(end, size)
        if axis % 3 == _TIME_AXIS:
            front, back = before, after
        elif before or after:
            raise Refused(f"it crops axis {axis}, which is not time")
    return front, back


def _from_front(start: int, size: object) -> int:
    if start >= 0:
        return start
    if isinstance(size, int):
        return max(size + start, 0)
    raise Refused("it keeps the last steps of a signal whose length is not known")


def _from_end(end: int, size: object) -> int:
    if end < 0:
        return -end
    if end >= _UNBOUNDED:
        return 0
    if isinstance(size, int):
        return max(size - end, 0)
    raise Refused("it keeps the first steps of a signal whose length is not known")
