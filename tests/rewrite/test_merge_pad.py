from __future__ import annotations

import pytest

from rewrite.onnx_text import parse, refusal, rewritten
from support import operators
from tcn_export.rewrite.merge_pad import MergePad

WEIGHT = "float[2,2,3] w = {1,2,3,4,5,6,7,8,9,10,11,12}"


def graph(
    pads="0,0,3,0,0,1", pad="Pad (x, pads)", conv="pads = [1, 2]", tail="", more="",
    outputs="float[N,2,M] y",
):  # fmt: skip
    count = len(pads.split(","))
    return parse(f"""
        g (float[N,2,L] x) => ({outputs})
        <{WEIGHT}, int64[{count}] pads = {{{pads}}} {more}> {{
            p = {pad}
            y = Conv <{conv}> (p, w)
            {tail}
        }}""")


def conv_pads(result):
    return [
        list(n.attributes["pads"].as_ints()) for n in result.model.graph if n.op_type == "Conv"
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [4, 3]),
        ({"conv": "dilations = [2]"}, [3, 1]),
        ({"conv": "strides = [2], pads = [1, 2]"}, [4, 3]),
        ({"pad": "Pad (x, pads, zero)", "more": ", float zero = {0}"}, [4, 3]),
        ({"pads": "3,1", "pad": "Pad (x, pads, , a)", "more": ", int64[1] a = {2}"}, [4, 3]),
        ({"pads": "3,1", "pad": "Pad (x, pads, , a)", "more": ", int64[1] a = {-1}"}, [4, 3]),
        ({"conv": 'auto_pad = "VALID"'}, [3, 1]),
    ],
)
def test_pad_becomes_padding_of_the_convolution(options, expected):
    result = rewritten(MergePad(), graph(**options), tolerance=0)
    assert operators(result) == ["Conv"]
    assert conv_pads(result) == [expected]


def test_pad_that_two_convolutions_read_is_merged_into_both():
    original = graph(
        tail="z = Conv <dilations = [3]> (p, w)", outputs="float[N,2,M] y, float[N,2,K] z"
    )
    result = rewritten(MergePad(), original, tolerance=0)
    assert operators(result) == ["Conv", "Conv"]
    assert conv_pads(result) == [[4, 3], [3, 1]]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pad": 'Pad <mode = "reflect"> (x, pads)'}, "it pads by reflect"),
        ({"pad": 'Pad <mode = "edge"> (x, pads)'}, "by edge, a convolution with zeros"),
        ({"pad": "Pad (x, pads, v)", "more": ", float v = {0.5}"}, "it pads with 0.5"),
        ({"pads": "1,0,3,0,0,1"}, "it pads another axis than time"),
        ({"pads": "0,0,-1,0,0,1"}, "it crops, which a convolution cannot do to its input"),
        ({"conv": 'auto_pad = "SAME_LOWER"'}, "`y` pads automatically (SAME_LOWER)"),
        ({"tail": "z = Relu(p)", "outputs": "float[N,2,M] y, float[N,2,K] z"},
         "`p` is also read by `z`"),
        ({"outputs": "float[N,2,M] y, float[N,2,K] p"}, "`p` is also an output of the graph"),
    ],
)  # fmt: skip
def test_other_pads_are_left_alone_with_the_reason(options, reason):
    assert reason in refusal(MergePad(), graph(**options))


def test_pad_whose_amount_is_computed_is_left_alone():
    original = parse(f"""
        g (float[N,2,L] x, int64[6] pads) => (float[N,2,M] y)
        <{WEIGHT}> {{
            p = Pad (x, pads)
            y = Conv (p, w)
        }}""")
    assert refusal(MergePad(), original) == "its amount is not a constant"


def test_pad_in_front_of_a_two_dimensional_convolution_is_left_alone():
    original = parse("""
        g (float[N,1,L,5] x) => (float[N,1,M,5] y)
        <float[1,1,3,1] w = {1,2,3}, int64[8] pads = {0,0,2,0,0,0,0,0}> {
            p = Pad (x, pads)
            y = Conv (p, w)
        }""")
    assert refusal(MergePad(), original) == "`y` is not a 1-D convolution"
