from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewrite.onnx_text import parse, refusal, rewritten
from support import operators
from tcn_export.rewrite.base import run
from tcn_export.rewrite.crop_to_padding import CropToPadding

WEIGHT = "float[2,2,3] w = {1,2,3,4,5,6,7,8,9,10,11,12}"


def graph(
    start="0", end="-4", axis="2", step="1", conv="pads = [4, 4], dilations = [2]",
    tail="y = Identity(c)", length="L", outputs="float[N,2,M] y", more="",
):  # fmt: skip
    return parse(f"""
        g (float[N,2,{length}] x) => ({outputs})
        <{WEIGHT}, int64[1] start = {{{start}}}, int64[1] end = {{{end}}},
         int64[1] axis = {{{axis}}}, int64[1] step = {{{step}}} {more}> {{
            h = Conv <{conv}> (x, w)
            c = Slice (h, start, end, axis, step)
            {tail}
        }}""")


def pads(result):
    conv = next(n for n in result.model.graph if n.op_type == "Conv")
    return list(conv.attributes["pads"].as_ints())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [4, 0]),
        ({"end": "-3"}, [4, 1]),
        ({"start": "1", "end": str(2**63 - 1)}, [3, 4]),
        ({"start": "2", "end": "-1"}, [2, 3]),
        ({"axis": "-1"}, [4, 0]),
        ({"end": "20", "length": "20"}, [4, 0]),
        ({"start": "-20", "end": str(2**63 - 1), "length": "20"}, [0, 4]),
        ({"conv": "pads = [4, 4], strides = [2]", "end": "-2"}, [4, 0]),
        ({"conv": "pads = [4, 4], strides = [2]", "start": "1", "end": "-1"}, [2, 2]),
    ],
)
def test_crop_becomes_less_padding(options, expected):
    result = rewritten(CropToPadding(), graph(**options), tolerance=0)
    assert operators(result) == ["Conv", "Identity"]
    assert pads(result) == expected


@given(
    left=st.integers(0, 6),
    right=st.integers(0, 6),
    front=st.integers(0, 3),
    back=st.integers(0, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    length=st.integers(7, 21),
)
def test_every_crop_that_padding_covers_is_exact(
    left, right, front, back, stride, dilation, length
):
    if front * stride > left or back * stride > right or (front, back) == (0, 0):
        return
    positions = (length + left + right - 2 * dilation - 1) // stride + 1
    if positions - front - back < 1:
        return
    conv = f"pads = [{left}, {right}], strides = [{stride}], dilations = [{dilation}]"
    end = str(-back) if back else str(2**63 - 1)
    original = graph(start=str(front), end=end, conv=conv, length=str(length))
    assert operators(rewritten(CropToPadding(), original, tolerance=0)) == ["Conv", "Identity"]


def test_crop_at_the_output_of_the_graph_keeps_the_output_name():
    original = graph(tail="", outputs="float[N,2,M] c")
    result = rewritten(CropToPadding(), original, tolerance=0)
    assert operators(result) == ["Conv"]
    assert [v.name for v in result.model.graph.outputs] == ["c"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"end": "-5"}, "it crops 0 steps in front and 5 behind, more than `h` pads"),
        ({"start": "5", "end": "-1"}, "it crops 5 steps in front and 1 behind"),
        ({"conv": "pads = [4, 4], strides = [2]", "end": "-3"}, "more than `h` pads"),
        ({"step": "2"}, "it takes every 2th step"),
        ({"axis": "1", "end": "-1", "outputs": "float[N,1,M] y"}, "it crops axis 1"),
        ({"axis": "0", "end": "-1"}, "it crops axis 0, which is not time"),
        ({"end": "20"}, "it keeps the first steps of a signal whose length is not known"),
        ({"start": "-9", "end": "-1"}, "it keeps the last steps of a signal whose length"),
        ({"tail": "y = Add(c, c) z = Relu(h)", "outputs": "float[N,2,M] y, float[N,2,K] z"},
         "`h` is also read by `z`"),
        ({"outputs": "float[N,2,M] y, float[N,2,K] h"}, "`h` is also an output of the graph"),
        ({"conv": 'auto_pad = "SAME_UPPER"', "end": "-1"}, "`h` pads automatically"),
    ],
)  # fmt: skip
def test_other_crops_are_left_alone_with_the_reason(options, reason):
    assert reason in refusal(CropToPadding(), graph(**options))


def test_crop_whose_end_is_computed_is_left_alone():
    original = parse(f"""
        g (float[N,2,L] x, int64[1] end) => (float[N,2,M] y)
        <{WEIGHT}, int64[1] start = {{0}}, int64[1] axis = {{2}}> {{
            h = Conv <pads = [2, 2]> (x, w)
            y = Slice (h, start, end, axis)
        }}""")
    assert refusal(CropToPadding(), original) == "its end is not a constant"


def test_crop_whose_end_a_caller_may_replace_is_left_alone():
    original = parse(f"""
        g (float[N,2,L] x, int64[1] end) => (float[N,2,M] y)
        <{WEIGHT}, int64[1] start = {{0}}, int64[1] end = {{-2}}, int64[1] axis = {{2}}> {{
            h = Conv <pads = [2, 2]> (x, w)
            y = Slice (h, start, end, axis)
        }}""")
    assert refusal(CropToPadding(), original) == "its end is not a constant"


def test_crop_behind_a_two_dimensional_convolution_is_left_alone():
    original = parse("""
        g (float[N,1,L,5] x) => (float[N,1,M,5] y)
        <float[1,1,3,1] w = {1,2,3}, int64[1] s = {0}, int64[1] e = {-2}, int64[1] a = {2}> {
            h = Conv <pads = [2, 0, 2, 0]> (x, w)
            y = Slice (h, s, e, a)
        }""")
    assert refusal(CropToPadding(), original) == "`h` is not a 1-D convolution"


def test_slices_that_follow_no_convolution_are_not_even_looked_at():
    original = parse("""
        g (float[N,2,L] x) => (float[N,2,M] y)
        <int64[1] s = {0}, int64[1] e = {-2}, int64[1] a = {2}> { y = Slice (x, s, e, a) }""")
    step = run(CropToPadding(), original).history[-1]
    assert (step.modified, step.refusals) == (0, ())
