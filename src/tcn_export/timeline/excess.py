"""How many steps a value has beyond, or short of, those that its signal alone accounts for."""

from __future__ import annotations

import onnx_ir as ir

from tcn_export.timeline.passage import Window


def excess_after(node: ir.Node, window: Window, before: int) -> int:
    """The excess of what a node makes of a value.

    A value of stride s has ``n / s + excess`` steps of a signal of n: padding at its end adds
    some, kernels without padding and crops take some away.

    Args:
        node: Reads the value.
        window: How.
        before: The excess of the value.

    >>> conv = ir.node("Conv", [])
    >>> excess_after(conv, Window(1, (0, 1, 2)), 0)  # a kernel of 3 without padding
    -2
    >>> excess_after(conv, Window(1, (-2, -1, 0), 2), 0)  # padded by 2 on both sides
    2
    >>> excess_after(conv, Window(2, (-1, 0, 1), 1), 0)  # padded by 1, of stride 2
    0
    """
    front, span = -window.offsets[0], window.offsets[-1] - window.offsets[0]
    room = before + front + window.behind - span - 1
    if not node.attributes.get_int("ceil_mode", 0):
        return room // window.stride + 1
    after = -(-room // window.stride) + 1
    # The last window of PyTorch's pools begins within the signal, or the padding in front.
    begins_behind = (after - 1) * window.stride >= before + front
    return after - 1 if begins_behind else after
