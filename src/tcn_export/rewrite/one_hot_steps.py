"""Steps are chosen by a convolution with one weight of 1 per channel.

    Slice(x, start, stop, step)   ->   Conv(x, one-hot, group = channels, stride = step)

A Slice leaves ONNX Runtime's blocked layout (NCHWc), and with it the fusion of Conv, Add and
Relu; a depthwise convolution stays in it. Exact: every product is with 1 or 0.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from tcn_export.rewrite.base import NodeRewrite, Refused, add_initializer, constant

_CHANNELS, _TIME = 1, 3


class OneHotSteps(NodeRewrite):
    """Turn a ``Slice`` along time, of four dimensions, into a depthwise convolution.

    Args:
        block: Channels must be a multiple of it: else the layout is not blocked anyway.
    """

    name = "one_hot_steps"

    def __init__(self, block: int = 8) -> None:
        self._block = block

    def is_candidate(self, node: ir.Node) -> bool:
        """Every Slice of (batch, channels, 1, steps)."""
        value = node.inputs[0]
        return (
            node.op_type == "Slice"
            and len(node.inputs) > 3
            and value is not None
            and value.shape is not None
            and len(value.shape) == _TIME + 1
        )

    def apply(self, node: ir.Node) -> None:
        """Replace a Slice."""
        value, output = node.inputs[0], node.outputs[0]
        assert value is not None
        assert value.shape is not None
        channels, length = value.shape[_CHANNELS], value.shape[_TIME]
        if not isinstance(channels, int) or not isinstance(length, int):
            raise Refused("the number of channels or of steps is not known")
        if output.is_graph_output():
            raise Refused("it is an output of the graph")
        if channels % self._block:
            raise Refused(f"{channels} channels are no multiple of {self._block}")
        taken = sliced_steps(node, length, _TIME)
        spacing, taps = zero_taps([taken.start], length, len(taken), taken.step)
        assert node.graph is not None
        weight = np.zeros((channels, 1, 1, taps), np.float32)
        weight[..., taken.start // spacing] = 1
        conv = ir.node(
            "Conv",
            [value, add_initializer(node.graph, f"{node.name}/kernel", weight)],
            {
                "group": channels,
                "kernel_shape": [1, taps],
                "strides": [1, taken.step],
                "dilations": [1, spacing],
                "pads": [0, 0, 0, 0],
            },
            name=f"{node.name}/one_hot",
        )
        conv.outputs[0].name, conv.outputs[0].type = conv.name, output.type
        conv.metadata_props.update(node.metadata_props)
        node.graph.insert_before(node, conv)
        ir.convenience.replace_all_uses_with(output, conv.outputs[0])
        node.graph.remove(node, safe=True)


def sliced_steps(node: ir.Node, length: int, time_axis: int) -> range:
    """The steps that a Slice takes of ``length`` steps.

    Raises:
        Refused: It takes none, or more than steps in their order.
    """
    start, stop, axis = (constant(node.inputs[i], "bounds").ravel() for i in (1, 2, 3))
    step = constant(node.inputs[4], "step").ravel() if len(node.inputs) > 4 else np.ones(1)
    if axis.tolist() not in ([time_axis], [-1]):
        raise Refused("it crops other axes")
    if step[0] < 1:
        raise Refused("it turns time around")
    taken = range(length)[slice(int(start[0]), int(stop[0]), int(step[0]))]
    if not len(taken):
        raise Refused("it takes no step")
    return taken


def zero_taps(read: list[int], length: int, outputs: int, stride: int) -> tuple[int, int]:
    """Dilation and number of taps of a kernel that reads some offsets, and nothing else.

    Taps in front and between have zero weights, and as many behind as keep the kernel from
    fitting more often than before.

    Args:
        read: Offsets that the first output reads, ascending.
        length: Steps that there are.
        outputs: How often the kernel has to fit.
        stride: Steps from one output to the next.

    >>> zero_taps([2], 7, 3, 2)  # a tap at 0, which is zero, and one at 2
    (2, 2)
    """
    for spacing in (math.gcd(*read) or 1, 1):
        taps = read[-1] // spacing + 1
        excess = length - 1 - outputs * stride
        if length - 1 - (taps - 1) * spacing >= outputs * stride:
            taps = excess // spacing + 2
        if (length - 1 - (taps - 1) * spacing) // stride + 1 == outputs:
            return spacing, taps
    raise AssertionError(f"{read} of {length} steps: {outputs} outputs, stride {stride}")
