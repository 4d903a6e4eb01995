"""Layouts compute the same; each rewrite does what it is for, and says what it left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewrite.networks import Writer, finished, head, networks
from rewrite.onnx_text import parse, rewritten
from rewrite.test_last_step import REWRITE, check_equal
from support import operators
from tcn_export.rewrite.base import run, run_plan
from tcn_export.rewrite.conv1d_to_conv2d import Conv1dToConv2d
from tcn_export.rewrite.direct_reads import DirectReads
from tcn_export.rewrite.one_hot_steps import OneHotSteps
from tcn_export.rewrite.pad_channels import PadChannels
from tcn_export.rewrite.plans import LAYOUTS

PAD = PadChannels(8)


def numbers(*shape: int) -> str:
    values = (0.1 * ((7 * i) % 11 - 5) for i in range(int(np.prod(shape))))
    return "{" + ", ".join(f"{v:.2f}" for v in values) + "}"


@given(networks(), st.sampled_from(sorted(LAYOUTS)))
def test_any_network_answers_the_same_in_any_layout(graph, name):
    plan = [PAD if isinstance(r, PadChannels) else r for r in LAYOUTS[name]]
    laid_out = run(REWRITE, graph)
    for rewrite in plan:
        laid_out = run(rewrite, laid_out)
        assert run(rewrite, laid_out).history[-1].modified == 0, rewrite.name
    check_equal(graph, laid_out)


def test_a_gate_for_all_channels_stands_beside_as_many_new_ones():
    """17 channels and one lack 15 each, and are 32 and 16 then."""
    writer = Writer(0)
    x = writer.convolution("x", 3, 1, 2, 0, outputs=17)
    gate = writer.convolution(x, 1, 1, 0, 0, inputs=17, outputs=1)
    x = writer.add("Mul", x, writer.add("Sigmoid", gate))
    x = writer.convolution(x, 3, 2, 4, 0, inputs=17)
    graph = finished(writer, head(writer, x, "last", 40), 40)
    for name in LAYOUTS:
        check_equal(graph, run_plan(LAYOUTS[name], run(REWRITE, graph)))


CROPPED = f"""
g (float[n,4,30] x) => (float[n,4,m] y)
<float[4,4,3] w = {numbers(4, 4, 3)}, int64[1] start = {{START}}, int64[1] stop = {{STOP}},
 int64[1] axis = {{2}}, int64[1] step = {{STEP}}>
{{
    a = Slice(x, start, stop, axis, step)
    y = Conv<kernel_shape = [3], strides = [STRIDE], dilations = [DILATION]>(a, w)
}}"""


def cropped(start, stop, step, stride, dilation, length) -> str:
    text = CROPPED.replace("DILATION", str(dilation)).replace("STRIDE", str(stride))
    text = text.replace("START", str(start)).replace("STOP", str(stop))
    return text.replace("STEP", str(step)).replace("float[n,4,m]", f"float[n,4,{length}]")


@given(
    start=st.integers(0, 6),
    stop=st.integers(20, 30),
    step=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
)
def test_any_slice_is_read_directly(start, stop, step, stride, dilation):
    steps = len(range(30)[start:stop:step]) - 2 * dilation
    if steps < 1:
        return
    length = (steps - 1) // stride + 1
    graph = parse(cropped(start, stop, step, stride, dilation, length))
    result = rewritten(DirectReads(most_taps=100), graph, tolerance=1e-6)
    assert operators(result) == ["Conv"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("start = {5}", "start = {25}"), "it would have 28 taps instead of 3"),
        (
            ("kernel_shape = [3]", "kernel_shape = [3], pads = [1, 0]"),
            "it pads what the Slice",
        ),
        (("axis = {2}", "axis = {1}"), "it crops other axes"),
        (("float[n,4,30] x", "float[n,4,length] x"), "number of steps is not known"),
        (("step = {1}", "step = {-1}"), "it turns time around"),
    ],
)
def test_slices_that_are_not_read_directly(change, reason):
    text = cropped(5, 30, 1, 1, 1, "m")
    if "axis = {1}" in change[1]:
        text = text.replace("start = {5}", "start = {0}")
    result = run(DirectReads(), parse(text.replace(*change)))
    assert [r.reason for r in result.history[-1].refusals] == [
        pytest.approx(r.reason) if reason not in r.reason else r.reason
        for r in result.history[-1].refusals
    ]
    assert reason in result.history[-1].refusals[0].reason
    assert "Slice" in operators(result)


@given(start=st.integers(0, 6), stop=st.integers(8, 20), step=st.integers(1, 4))
def test_any_slice_becomes_a_one_hot_convolution(start, stop, step):
    length = len(range(20)[start:stop:step])
    graph = parse(f"""
        g (float[n,8,1,20] x) => (float[n,8,1,{length}] y)
        <int64[1] start = {{{start}}}, int64[1] stop = {{{stop}}}, int64[1] axis = {{3}},
         int64[1] step = {{{step}}}>
        {{ a = Slice(x, start, stop, axis, step)
           y = Identity(a) }}""")
    assert operators(rewritten(OneHotSteps(), graph, tolerance=0)) == ["Conv", "Identity"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("8,1,20] x", "6,1,20] x"), "6 channels are no multiple of 8"),
        (("y = Identity(a)", "b = Identity(a)"), "it is an output of the graph"),
        (("axis = {3}", "axis = {1}"), "it crops other axes"),
    ],
)
def test_slices_that_stay_as_they_are(change, reason):
    text = """
        g (float[n,8,1,20] x) => (float[n,c,1,m] y)
        <int64[1] start = {2}, int64[1] stop = {8}, int64[1] axis = {3}, int64[1] step = {1}>
        { a = Slice(x, start, stop, axis, step)
          y = Identity(a) }""".replace(*change)
    if "output" in reason:
        text = text.replace("(float[n,c,1,m] y)", "(float[n,c,1,m] a)")
    result = run(OneHotSteps(), parse(text))
    assert [r.reason for r in result.history[-1].refusals] == [reason]


def test_channels_are_filled_up_between_convolutions_and_nowhere_else():
    graph = parse(f"""
        g (float[n,4,20] x) => (float[n,3] y)
        <float[5,4,3] w = {numbers(5, 4, 3)}, float[5] b = {numbers(5)},
         float[5,1] scale = {numbers(5, 1)}, float[5,5,1] v = {numbers(5, 5, 1)},
         float[3,5] head = {numbers(3, 5)}, int64 last = {{-1}}>
        {{
            a = Conv<kernel_shape = [3], pads = [2, 0]>(x, w, b)
            c = Relu(a)
            d = Mul(c, scale)
            e = Conv<kernel_shape = [1]>(d, v)
            f = Add(e, d)
            h = Gather<axis = 2>(f, last)
            y = Gemm<transB = 1>(h, head)
        }}""")
    result = rewritten(PAD, graph, tolerance=1e-6)
    assert operators(result) == operators(graph), "no crop is needed anywhere"
    shapes = [n.inputs[1].shape for n in result.model.graph if n.op_type == "Conv"]
    assert [list(shape) for shape in shapes] == [[8, 4, 3], [8, 8, 1]]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("y = Softmax<axis = 1>(a)", ["Conv", "Slice", "Softmax"]),
        ("y = Cos(a)", ["Conv", "Slice", "Cos"]),  # not among those that are looked at
        ("y = Identity(a)", ["Conv", "Identity", "Slice"]),
        ("y = Concat<axis = 1>(a, a)", ["Conv", "Slice", "Concat"]),
        ("y = Conv<kernel_shape = [1], group = 5>(a, v)", ["Conv", "Slice", "Conv"]),
    ],
)
def test_what_cannot_bear_new_channels_reads_the_old_ones(line, expected):
    graph = parse(
        f"""
        g (float[n,4,20] x) => (float[n,c,20] y)
        <float[5,4,1] w = {numbers(5, 4, 1)}, float[5,1,1] v = {numbers(5, 1, 1)}>
        {{ a = Conv<kernel_shape = [1]>(x, w)
           {line} }}""".replace(
            "float[n,c,20]", f"float[n,{10 if 'Concat' in line else 5},20]"
        )
    )
    result = rewritten(PAD, graph, tolerance=1e-6)
    assert operators(result) == expected


def test_what_chooses_steps_and_what_pools_is_widened_with_the_convolutions():
    graph = parse(
        f"""
        g (float[n,4,20] x) => (float[n,8,m] y)
        <float[4,4,1] w = {numbers(4, 4, 1)}, int64[1] one = {{1}}, int64[1] two = {{2}},
         int64[1] end = {{99}}, int64[2] some = {{1, 4}}, int64[6] pads = {{0, 0, 2, 0, 0, 1}}>
        {{
            a = Conv<kernel_shape = [1]>(x, w)
            b = Slice(a, one, end, two)
            c = Pad(b, pads)
            d = MaxPool<kernel_shape = [3], strides = [2]>(c)
            e = Gather<axis = 2>(d, some)
            y = Concat<axis = 1>(e, e)
        }}""".replace("float[n,8,m]", "float[n,8,2]")
    )
    result = rewritten(Conv1dToConv2d(), graph, tolerance=1e-6)
    assert operators(result) == [
        "Unsqueeze", "Conv", "Slice", "Pad", "MaxPool", "Gather", "Concat", "Squeeze",
    ]  # fmt: skip
