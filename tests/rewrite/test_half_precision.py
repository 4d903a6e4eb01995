from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from rewrite.onnx_text import parse, rewritten
from support import operators
from tcn_export.rewrite.base import run
from tcn_export.rewrite.half_precision import HalfPrecision

HALF, FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT
ALL_SMALL: dict[str, float] = {}
COARSE = 4e-3  # a few roundings to 11 bits


def network(first="", weight="{1.5}", last="y = Conv (r, w)"):
    """Two convolutions of one channel, with what is put before and behind."""
    read = "n" if first else "x"
    return parse(f"""
        g (float[N,1,L] x) => (float[N,1,L] y)
        <float[1,1,1] w = {weight}, float[1] b = {{0.25}}, float[1,1] c = {{3}},
         int64[1] axes = {{2}}, float s = {{0.1}}, int8 z = {{0}}> {{
            {first}
            h = Conv ({read}, w, b)
            r = Relu (h)
            {last}
        }}""")


def text(graph):
    """The nodes as ``output: dtype = operator(inputs)``, constants left out."""
    return [
        f"{node.outputs[0].name}: {node.outputs[0].dtype} = {node.op_type}"
        f"({', '.join(v.name for v in node.inputs if not v.is_initializer())})"
        for node in graph.model.graph
    ]


def test_casts_stand_at_the_borders_only():
    result = rewritten(HalfPrecision(ALL_SMALL), network(), COARSE)
    assert text(result) == [
        "x.float16: FLOAT16 = Cast(x)",
        "h: FLOAT16 = Conv(x.float16)",
        "r: FLOAT16 = Relu(h)",
        "y.float16: FLOAT16 = Conv(r)",
        "y: FLOAT = Cast(y.float16)",
    ]
    assert {v.dtype for v in result.model.graph.initializers.values()} == {HALF}
    assert result.history[-1].refusals == ()
    assert result.history[-1].modified == 3


def test_a_value_that_many_read_is_cast_once():
    graph = parse("""
        g (float[N,1,L] x) => (float[N,1,L] y, float[N,1,1] m, float[N,1,1] k, float[N,1,L] r)
        <float[1,1,1] w = {1.5}, int64[1] axes = {2}> {
            a = Conv (x, w)
            b = Conv (x, w)
            r = Add (a, b)
            m = ReduceMean (r, axes)
            k = ReduceSum (r, axes)
            y = Relu (r)
        }""")
    result = rewritten(HalfPrecision(ALL_SMALL), graph, COARSE)
    assert text(result) == [
        "x.float16: FLOAT16 = Cast(x)",
        "a: FLOAT16 = Conv(x.float16)",
        "b: FLOAT16 = Conv(x.float16)",
        "r.float16: FLOAT16 = Add(a, b)",
        "r: FLOAT = Cast(r.float16)",
        "m: FLOAT = ReduceMean(r)",
        "k: FLOAT = ReduceSum(r)",
        "y.float16: FLOAT16 = Relu(r.float16)",
        "y: FLOAT = Cast(y.float16)",
    ]


def test_casts_enclose_a_layer_that_stays():
    graph = network(last="e = Exp (r)\n t = Conv (e, w)\n y = Relu (t)")
    result = rewritten(HalfPrecision(ALL_SMALL), graph, 2e-2)
    assert text(result) == [
        "x.float16: FLOAT16 = Cast(x)",
        "h: FLOAT16 = Conv(x.float16)",
        "r: FLOAT16 = Relu(h)",
        "r.float32: FLOAT = Cast(r)",
        "e: FLOAT = Exp(r.float32)",
        "e.float16: FLOAT16 = Cast(e)",
        "t: FLOAT16 = Conv(e.float16)",
        "y.float16: FLOAT16 = Relu(t)",
        "y: FLOAT = Cast(y.float16)",
    ]


def test_a_constant_that_both_precisions_read_is_kept_in_both():
    graph = network(first="n = Mul (x, c)", last="y = Mul (r, c)")
    result = rewritten(HalfPrecision(ALL_SMALL), graph, COARSE)
    constants = {v.name: v.dtype for v in result.model.graph.initializers.values()}
    assert (constants["c"], constants["c.float16"]) == (FLOAT, HALF)


STAYS = {
    "raw input": (
        {"first": "o = Sub (x, c)\n n = Div (o, c)"},
        {"o": "rest far from zero", "n": "rest far from zero"},
    ),
    "raw input that was moved": (
        {"first": "i = Identity (x)\n n = Sub (i, c)"},
        {"n": "rest far from zero"},
    ),
    "mean over time": ({"last": "y = ReduceMean (r, axes)"}, {"y": "add up many steps"}),
    "sum over time": ({"last": "y = ReduceSum (r, axes)"}, {"y": "add up many steps"}),
    "pooling": ({"last": "y = GlobalAveragePool (r)"}, {"y": "add up many steps"}),
    "softmax": ({"last": "y = Softmax (r)"}, {"y": "exponentials"}),
    "unknown operator": ({"last": "y = Sin (r)"}, {"y": "Sin is not known to keep"}),
    "between Q and DQ": (
        {
            "last": "q = QuantizeLinear (r, s, z)\n d = DequantizeLinear (q, s, z)\n "
            "y = Conv (d, w)"
        },
        {"q": "scales", "d": "scales", "y": "computes in integers"},
    ),
    "large weights": (
        {"weight": "{70000}", "last": "y = Softmax (r)", "largest": {"r": 1e5}},
        {"h": "7.0e4", "r": "1.0e5", "y": "exponentials"},
    ),
    "small weights": ({"weight": "{1.3e-6}"}, {"h": "too small", "y": "too small"}),
}


@pytest.mark.parametrize("case", STAYS)
def test_node_stays_in_float32(case):
    options, reasons = STAYS[case]
    rewrite = HalfPrecision(options.get("largest", ALL_SMALL))
    graph = network(**{k: v for k, v in options.items() if k != "largest"})
    result = run(rewrite, graph)
    refused = {refusal.node: refusal.reason for refusal in result.history[-1].refusals}
    assert refused.keys() == reasons.keys()
    for node, part in reasons.items():
        assert part in refused[node]
    for node in result.model.graph:
        if node.name in reasons and node.op_type != "QuantizeLinear":
            assert node.outputs[0].dtype == FLOAT
    again = run(rewrite, result)
    assert again.history[-1].modified == 0
    assert again.history[-1].refusals == result.history[-1].refusals


@pytest.mark.parametrize(
    ("large", "stays"),
    [
        ({"h": 1.2e5}, {"h", "r"}),
        ({"r": 65505.0}, {"r", "y"}),
        ({"x": np.inf}, {"h"}),
        ({"h": 65504.0}, set()),
        ({"y": 1e6}, {"y"}),
    ],
)
def test_node_that_touches_a_value_beyond_the_range_stays(large, stays):
    rewrite = HalfPrecision({"x": 1.0, "h": 1.0, "r": 1.0, "y": 1.0} | large)
    result = rewritten(rewrite, network(), COARSE)
    refused = {refusal.node: refusal.reason for refusal in result.history[-1].refusals}
    assert refused.keys() == stays
    if "h" in large and stays:
        assert refused["h"] == "reaches 1.2e5, beyond the 65504 of float16"
    assert run(rewrite, result).history[-1].refusals == result.history[-1].refusals


def test_what_only_moves_numbers_between_float32_nodes_stays_there():
    """The scaling between the two stages of a mean would else be rounded twice."""
    graph = parse("""
        g (float[N,1,8] x) => (float[N,1] y)
        <float[1,1,1] w = {1.5}, int64[1] last = {3}, int64[1] two = {2},
         int64[4] rows = {0, 0, 2, 4}, float n = {4}> {
            h = Conv (x, w)
            q = Reshape (h, rows)
            s = ReduceSum <keepdims = 0> (q, last)
            d = Div (s, n)
            y = ReduceSum <keepdims = 0> (d, two)
        }""")
    result = rewritten(HalfPrecision(ALL_SMALL), graph, COARSE)
    assert operators(result) == [
        *("Cast", "Conv", "Reshape", "Cast"),
        *("ReduceSum", "Div", "ReduceSum"),
    ]


def test_integers_and_shapes_are_left_alone():
    graph = parse("""
        g (float[N,1,L] x) => (float[N,1] y)
        <float[1,1,1] w = {1.5}, int64[1] axes = {2}> {
            h = Conv (x, w)
            n = Shape <start = 2, end = 3> (h)
            k = Cast <to = 1> (n)
            s = ReduceSum <keepdims = 0> (h, axes)
            y = Div (s, k)
        }""")
    result = rewritten(HalfPrecision(ALL_SMALL), graph, COARSE)
    assert operators(result).count("Cast") == 3  # the input, the sum's, and that of the graph
    lengths = {v.name: v.dtype for node in result.model.graph for v in node.outputs}
    assert (lengths["n"], lengths["k"], lengths["y"]) == (ir.DataType.INT64, FLOAT, FLOAT)
    assert [refusal.node for refusal in result.history[-1].refusals] == ["s"]


def test_graph_with_nothing_to_convert_is_left_as_it_is():
    graph = parse("g (float[N,4] x) => (float[N,4] y) { y = Softmax (x) }")
    result = run(HalfPrecision(ALL_SMALL), graph)
    assert result.history[-1].modified == 0
    assert operators(result) == ["Softmax"]
