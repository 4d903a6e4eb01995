"""A convolution reads the steps that it needs out of all of them, instead of a copy.

    Conv(Slice(x, start, step), w)   ->   Conv(x, [0 .. 0 w]) with another stride and dilation

Taps with zero weights reach over the steps that the Slice left out. One node less, for more
multiplications: worth it where a node costs more than its work. Exact: what is new is
multiplied by zero.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tcn_export.rewrite.base import NodeRewrite, Refused, add_initializer, constant
from tcn_export.rewrite.one_hot_steps import sliced_steps, zero_taps


class DirectReads(NodeRewrite):
    """Fold a ``Slice`` along time into the convolution that reads it.

    Args:
        most_taps: How many times as many taps a kernel may get.
    """

    name = "direct_reads"

    def __init__(self, most_taps: int = 3) -> None:
        self._most_taps = most_taps

    def is_candidate(self, node: ir.Node) -> bool:
        """Every convolution over time that reads a Slice."""
        value = node.inputs[0] if node.inputs else None
        producer = None if value is None else value.producer()
        return (
            node.op_type == "Conv"
            and producer is not None
            and producer.op_type == "Slice"
            and len(producer.inputs) > 3
        )

    def apply(self, node: ir.Node) -> None:
        """Fold the Slice in front of a convolution into it."""
        (cropped, weight) = node.inputs[:2]
        assert cropped is not None
        assert weight is not None
        producer = cropped.producer()
        assert producer is not None
        whole = producer.inputs[0]
        assert whole is not None
        if whole.shape is None or len(whole.shape) != 3:
            raise Refused("it has not one spatial axis")
        length, kernel = whole.shape[2], constant(weight, "weight")
        if not isinstance(length, int):
            raise Refused("the number of steps is not known")
        if any(node.attributes.get_ints("pads", [0, 0])) or "auto_pad" in node.attributes:
            raise Refused("it pads what the Slice gives")
        taken = sliced_steps(producer, length, time_axis=2)
        (dilation,), (stride,) = (
            node.attributes.get_ints(name, [1]) for name in ("dilations", "strides")
        )
        read = [taken.start + taken.step * dilation * tap for tap in range(kernel.shape[2])]
        outputs = (len(taken) - dilation * (kernel.shape[2] - 1) - 1) // stride + 1
        spacing, taps = zero_taps(read, length, outputs, stride * taken.step)
        if taps > self._most_taps * kernel.shape[2]:
            raise Refused(f"it would have {taps} taps instead of {kernel.shape[2]}")
        wide = np.zeros((*kernel.shape[:2], taps), kernel.dtype)
        wide[:, :, [place // spacing for place in read]] = kernel
        assert node.graph is not None
        node.replace_input_with(0, whole)
        node.replace_input_with(1, add_initializer(node.graph, f"{weight.name}/wide", wide))
        for name, number in (
            ("kernel_shape", taps),
            ("dilations", spacing),
            ("strides", stride * taken.step),
        ):
            node.attributes[name] = ir.AttrInt64s(name, [number])
