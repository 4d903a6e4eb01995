from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewrite.onnx_text import parse, rewritten
from support import operators
from tcn_export.rewrite.base import run
from tcn_export.rewrite.conv1d_to_conv2d import Conv1dToConv2d

WEIGHTS = ", ".join(str(round(0.1 * ((7 * i) % 11 - 5), 2)) for i in range(48))
BLOCK = """
agraph (float[n,4,length] x, float[4,4,3] unused) => (float[n,4,length] y)
<float[4,4,3] w = {WEIGHTS}, float[4] b = {0.1, -0.2, 0.3, 0.5},
 float[4,1] scale = {1, 2, 3, 0.5}>
{
    first = Conv<kernel_shape = [3], dilations = [2], pads = [4, 0]>(x, w, b)
    active = Relu(first)
    scaled = Mul(active, scale)
    second = Conv<kernel_shape = [3], pads = [2, 0]>(scaled, w)
    sum = Add(second, x)
    y = Relu(sum)
}
""".replace("WEIGHTS", WEIGHTS)


def test_a_residual_block_is_four_dimensional_from_end_to_end():
    graph = rewritten(Conv1dToConv2d(), parse(BLOCK), tolerance=1e-6)
    assert operators(graph) == [
        "Unsqueeze", "Conv", "Relu", "Mul", "Conv", "Add", "Relu", "Squeeze",
    ]  # fmt: skip
    conv = next(node for node in graph.model.graph if node.op_type == "Conv")
    assert conv.name == "first", "names tell where a node comes from"
    assert list(conv.attributes.get_ints("pads")) == [0, 4, 0, 0]
    assert list(conv.attributes.get_ints("dilations")) == [1, 2]
    assert list(conv.inputs[1].shape) == [4, 4, 1, 3]


@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    group=st.sampled_from([1, 2]),
)
def test_any_convolution_over_time(kernel, stride, dilation, pads, group):
    channels = 4 // group
    weights = ", ".join(str(0.1 * (i % 7 - 3)) for i in range(4 * channels * kernel))
    graph = parse(f"""
        agraph (float[n,4,20] x) => (float[n,4,m] y)
        <float[4,{channels},{kernel}] w = {{{weights}}}>
        {{
            y = Conv<kernel_shape = [{kernel}], strides = [{stride}], group = {group},
                dilations = [{dilation}], pads = [{pads[0]}, {pads[1]}]>(x, w)
        }}""")
    assert operators(rewritten(Conv1dToConv2d(), graph, tolerance=1e-6)) == [
        "Unsqueeze", "Conv", "Squeeze",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("pads = [2, 0]", 'auto_pad = "SAME_LOWER"'), r"pads automatically \(SAME_LOWER\)"),
        (("(scaled, w)", "(scaled, unused)"), "its weights are not a constant"),
    ],
)
def test_refusals(change, reason):
    graph = run(Conv1dToConv2d(), parse(BLOCK.replace(*change)))
    assert [r.node for r in graph.history[-1].refusals] == ["second"]
    assert re.search(reason, graph.history[-1].refusals[0].reason)


def test_a_graph_without_convolutions_is_left_alone():
    text = "agraph (float[n,4,9] x) => (float[n,4,9] y) { y = Relu(x) }"
    result = run(Conv1dToConv2d(), parse(text))
    assert result.history[-1].modified == 0
    assert operators(result) == ["Relu"]


def test_operators_that_read_the_time_axis_get_three_dimensions():
    text = BLOCK.replace("y = Relu(sum)", "r = Relu(sum)\n y = Softmax<axis = 2>(r)")
    graph = rewritten(Conv1dToConv2d(), parse(text), tolerance=1e-6)
    assert operators(graph)[-2:] == ["Squeeze", "Softmax"]
