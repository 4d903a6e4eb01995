"""A zero Pad in front of a convolution becomes the convolution's own padding.

    Pad([.., l], [.., r], 0) -> Conv(pads=[p, q])
    Conv(pads=[p + l, q + r])

Exact: the same zeros meet the same taps. Other modes and values are not what Conv pads with,
and are refused.
"""

from __future__ import annotations

import onnx_ir as ir

from tcn_export.rewrite.base import NodeRewrite, Refused, constant, pads_of, set_pads


class MergePad(NodeRewrite):
    """Turn ``Pad -> Conv`` into one convolution, for every convolution that reads the Pad."""

    name = "merge_pad"

    def is_candidate(self, node: ir.Node) -> bool:
        """Every Pad that a convolution reads."""
        return node.op_type == "Pad" and any(
            use.node.op_type == "Conv" and use.idx == 0 for use in node.outputs[0].uses()
        )

    def apply(self, node: ir.Node) -> None:
        """Merge the Pad ``node`` into all its readers."""
        begin, end = _padded_steps(node)
        padded, source = node.outputs[0], node.inputs[0]
        if padded.is_graph_output():
            raise Refused(f"`{padded.name}` is also an output of the graph")
        convs = []
        for use in padded.uses():
            if use.node.op_type != "Conv" or use.idx != 0:
                raise Refused(f"`{padded.name}` is also read by `{use.node.name}`")
            front, behind = pads_of(use.node)
            convs.append((use.node, front + begin, behind + end))
        for conv, front, behind in convs:
            set_pads(conv, front, behind)
            conv.replace_input_with(0, source)
        assert node.graph is not None
        node.graph.remove(node, safe=True)


def _padded_steps(node: ir.Node) -> tuple[int, int]:
    """How many zeros a Pad (ONNX operator version 18) adds before and after, in time."""
    mode = node.attributes.get_string("mode", "constant")
    if mode != "constant":
        raise Refused(f"it pads by {mode}, a convolution with zeros")
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        value = constant(node.inputs[2], "value")
        if value.size and value.item() != 0:
            raise Refused(f"it pads with {value.item()}, a convolution with zeros")
    pads = constant(node.inputs[1], "amount").tolist()
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = [axis % 3 for axis in constant(node.inputs[3], "axes").tolist()]
    else:
        axes = list(range(len(pads) // 2))
    amounts = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    begin, end = amounts.pop(2, (0, 0))
    if any(pair != (0, 0) for pair in amounts.values()):
        raise Refused("it pads another axis than time")
    if begin < 0 or end < 0:
        raise Refused("it crops, which a convolution cannot do to its input")
    return begin, end
