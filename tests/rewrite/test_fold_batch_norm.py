from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from torch import nn

from rewrite.onnx_text import evaluate, parse, refusal, rewritten
from support import NO_SHRINKING, eager_double, in_double, make_source, operators
from tcn_export.capture import capture
from tcn_export.models.resnet1d import ResNet1dConfig, WangResNetConfig
from tcn_export.models.tcn import TCNConfig
from tcn_export.rewrite.base import run, run_plan
from tcn_export.rewrite.fold_batch_norm import FoldBatchNorm
from tcn_export.rewrite.plans import ONNX

ROUNDING = 32 * np.finfo(np.float32).eps
DOUBLE_ROUNDING = 4096 * np.finfo(np.float64).eps
WEIGHTS = """float[2,2,3] w = {1,-2,3,4,5,-6,7,8,-9,1,2,3}, float[2] b = {0.5,-1},
    float[2] gamma = {1.5,0.5}, float[2] beta = {1,-2}, float[2] mean = {0.25,-3},
    float[2] var = {2,0.125}"""
NORM = "BatchNormalization"


def graph(linear="Conv (x, w, b)", norm=f"{NORM} (h, gamma, beta, mean, var)", between="",
          tail="", more="", x="float[N,2,L] x", outputs="float[N,2,M] y"):  # fmt: skip
    return parse(f"""
        g ({x}) => ({outputs}) <{WEIGHTS} {more}> {{
            h = {linear}
            {between}
            y = {norm}
            {tail}
        }}""")


CROP = {
    "between": "c = Slice (h, s, e, a)",
    "norm": f"{NORM} (c, gamma, beta, mean, var)",
    "more": ", int64[1] s = {1}, int64[1] e = {-2}, int64[1] a = {2}",
}
PER_CHANNEL = ", float[2,1] c = {3,-4}"
MATRIX = ", float[2,2] m = {1,-2,3,4}"
TWO_D = {"x": "float[N,2] x", "outputs": "float[N,2] y"}


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, ["Conv"]),
        ({"linear": "Conv (x, w)"}, ["Conv"]),
        ({"linear": "Conv <strides = [2], dilations = [2], pads = [3, 0]> (x, w)"}, ["Conv"]),
        ({"norm": f"{NORM} <epsilon = 0.5> (h, gamma, beta, mean, var)"}, ["Conv"]),
        (CROP, ["Conv", "Slice"]),
        ({"norm": "Mul (h, c)", "more": PER_CHANNEL}, ["Conv"]),
        ({"norm": "Mul (c, h)", "more": PER_CHANNEL}, ["Conv"]),
        ({"norm": "Add (h, c)", "more": PER_CHANNEL}, ["Conv"]),
        ({"norm": "Sub (h, c)", "more": PER_CHANNEL}, ["Conv"]),
        ({"norm": "Div (h, c)", "more": PER_CHANNEL}, ["Conv"]),
        ({"norm": "Mul (h, c)", "more": ", float c = {0.5}"}, ["Conv"]),
        ({"norm": "Add (h, c)", "more": ", float[1,2,1] c = {3,-4}"}, ["Conv"]),
        ({"linear": "Gemm (x, m, b)", "more": MATRIX, **TWO_D}, ["Gemm"]),
        ({"linear": "Gemm <transB = 1> (x, m, b)", "more": MATRIX, **TWO_D}, ["Gemm"]),
        ({"linear": "Gemm (x, m)", "more": MATRIX, **TWO_D}, ["Gemm"]),
        ({"linear": "Gemm (x, m, c)", "more": MATRIX + ", float c = {2}", **TWO_D}, ["Gemm"]),
        (
            {"linear": "Gemm (x, m, b)", "norm": "Mul (h, c)",
             "more": MATRIX + ", float[2] c = {3,-4}", **TWO_D},
            ["Gemm"],
        ),
    ],
)  # fmt: skip
def test_normalisation_folds_into_the_linear_operator(options, left):
    assert operators(rewritten(FoldBatchNorm(), graph(**options), ROUNDING)) == left


def test_grouped_convolution_folds_per_output_channel():
    original = parse(f"""
        g (float[N,4,L] x) => (float[N,2,M] y) <{WEIGHTS}> {{
            h = Conv <group = 2> (x, w, b)
            y = {NORM} (h, gamma, beta, mean, var)
        }}""")
    assert operators(rewritten(FoldBatchNorm(), original, ROUNDING)) == ["Conv"]


def test_chain_of_affine_operators_folds_at_once():
    original = graph(
        norm="Mul (h, c)",
        tail=f"z = {NORM} (y, gamma, beta, mean, var) q = Add (z, c)",
        outputs="float[N,2,M] q",
        more=PER_CHANNEL,
    )
    result = rewritten(FoldBatchNorm(), original, ROUNDING)
    assert operators(result) == ["Conv"]
    assert result.history[-1].modified == 3
    assert [v.name for v in result.model.graph.outputs] == ["q"]


def test_weights_that_another_convolution_shares_stay_as_they_are():
    original = graph(tail="z = Conv (x, w, b)", outputs="float[N,2,M] y, float[N,2,K] z")
    result = rewritten(FoldBatchNorm(), original, ROUNDING)
    assert operators(result) == ["Conv", "Conv"]
    convs = {n.outputs[0].name: n for n in result.model.graph}
    assert convs["z"].inputs[1].name == "w"


def test_nothing_unused_is_left_behind():
    result = run(FoldBatchNorm(), graph())
    assert sorted(result.model.graph.initializers) == ["b_folded", "w_folded"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"linear": "Relu (x)"}, "no convolution or linear layer computes its input"),
        ({"norm": f"{NORM} (x, gamma, beta, mean, var)", "linear": "Relu (x)"},
         "no convolution or linear layer"),
        ({"tail": "z = Relu(h)", "outputs": "float[N,2,M] y, float[N,2,K] z"},
         "`h` is also read by `z`"),
        ({"outputs": "float[N,2,M] y, float[N,2,K] h"}, "`h` is also an output of the graph"),
        ({**CROP, "outputs": "float[N,2,M] y, float[N,2,K] h"}, "`h` is also an output"),
        ({**CROP, "tail": "z = Relu(h)", "outputs": "float[N,2,M] y, float[N,2,K] z"},
         "`h` is also read by `z`"),
        ({"x": "float[N,2,L] x, float[2,2,3] w"}, "weight (of `h`) is not a constant"),
        ({"x": "float[N,2,L] x, float[2] b"}, "bias (of `h`) is not a constant"),
        ({"x": "float[N,2,L] x, float[2] var"}, "its variance is not a constant"),
        ({"norm": f"{NORM} (h, gamma, beta, mean, v)", "more": ", float[2] v = {1,-1}"},
         "its variance is not positive"),
        ({"norm": f"{NORM} <epsilon = 1e-30> (h, huge, beta, mean, v)",
          "more": ", float[2] v = {0,1}, float[2] huge = {1e38,1}"}, "overflow float32"),
        ({"norm": "Mul (h, c)", "more": ", float[3] c = {1,2,3}", "x": "float[N,2,5] x",
          "outputs": "float[N,2,3] y"}, "of the shape (3,) is not one value per channel"),
        ({"norm": "Add (h, c)", "more": ", float[1,1,2,1] c = {1,2}",
          "outputs": "float[1,N,2,M] y"}, "is not one value per channel"),
        ({"norm": "Div (h, c)", "more": ", float[2,1] c = {1,0}"}, "it divides by zero"),
        ({"linear": "Gemm <alpha = 2.0> (x, m, b)", "more": MATRIX, **TWO_D}, "scales its"),
        ({"linear": "Gemm (x, m, r)", "more": MATRIX + ", float[3,2] r = {1,2,3,4,5,6}",
          "x": "float[3,2] x", "outputs": "float[3,2] y"}, "adds more than a bias"),
        ({"between": "c = Slice (h, s, e, a)", "norm": "Mul (c, k)",
          "more": ", int64[1] s = {0}, int64[1] e = {1}, int64[1] a = {1}, float k = {2}",
          "outputs": "float[N,1,M] y"}, "`c` in between crops another axis than time"),
        ({"between": "c = Slice (h, s, e, a, d)", "norm": "Mul (c, k)",
          "more": ", int64[1] s = {-1}, int64[1] e = {-99}, int64[1] a={2}, int64[1] d = {-1}"
          ", float k = {2}"}, "`c` in between crops"),
        ({"linear": "Gemm (x, m, b)", "norm": "Mul (c, k)", "between": "c=Slice (h, s, e, a)",
          "more": MATRIX + ", int64[1] s = {0}, int64[1] e = {1}, int64[1] a = {-1}"
          ", float k = {2}", **TWO_D, "outputs": "float[N,1] y"}, "`c` in between crops"),
        ({"linear": "Conv (x, w2, b)", "norm": "Mul (h, c)",
          "more": ", float[2,2,1,1] w2 = {1,2,3,4}, float[2,1] c = {3,-4}",
          "x": "float[N,2,2,2] x", "outputs": "float[N,2,2,2] y"},
         "`h` is no convolution over one axis, time"),
        ({"linear": "Gemm (x, m, r)", "more": MATRIX + ", float[2,1] r = {1,2}",
          "x": "float[2,2] x", "outputs": "float[2,2] y"}, "adds more than a bias"),
    ],
)  # fmt: skip
def test_other_normalisations_are_left_alone_with_the_reason(options, reason):
    assert reason in refusal(FoldBatchNorm(), graph(**options))


def test_normalisation_by_the_batch_is_left_alone():
    original = parse(f"""
        g (float[N,2,L] x) => (float[N,2,M] y) <{WEIGHTS}> {{
            h = Conv (x, w, b)
            y, m, v = {NORM} <training_mode = 1> (h, gamma, beta, mean, var)
        }}""")
    assert "normalises by the batch" in refusal(FoldBatchNorm(), original)


def test_normalisation_in_front_of_a_padded_convolution_is_left_alone():
    original = parse(f"""
        g (float[N,2,L] x) => (float[N,2,M] y) <{WEIGHTS}> {{
            h = {NORM} (x, gamma, beta, mean, var)
            y = Conv <pads = [2, 0]> (h, w, b)
        }}""")
    assert "no convolution or linear layer computes" in refusal(FoldBatchNorm(), original)


def test_difference_from_a_constant_is_not_mistaken_for_a_shift():
    original = graph(norm="Sub (c, h)", more=PER_CHANNEL)
    step = run(FoldBatchNorm(), original).history[-1]
    assert (step.modified, step.refusals) == (0, ())


CONFIGS = st.one_of(
    st.builds(
        TCNConfig,
        in_channels=st.just(2),
        outputs=st.just(3),
        widths=st.just((3, 4, 4)),
        dilations=st.just((1, 2, 3)),
        kernel_size=st.integers(1, 4),
        convolutions=st.integers(1, 2),
        causal_padding=st.sampled_from(["left", "crop"]),
        head=st.sampled_from(["last", "every", "mean"]),
    ),
    st.builds(
        ResNet1dConfig,
        in_channels=st.just(2),
        outputs=st.just(3),
        widths=st.just((3, 4)),
        strides=st.just((1, 2)),
        kernel_size=st.integers(2, 5),
        stem_kernel=st.integers(2, 5),
    ),
    st.builds(
        WangResNetConfig, in_channels=st.just(2), outputs=st.just(3), widths=st.just((3, 4, 4))
    ),
)


@settings(max_examples=8 if settings().max_examples <= 25 else 60, phases=NO_SHRINKING)
@given(
    config=CONFIGS, seed=st.integers(0, 1000), variance=st.sampled_from([1e-2, 1e-6, 1e-12])
)
def test_folding_in_double_precision_is_exact_against_eager(
    tmp_path_factory, config, seed, variance
):
    path = tmp_path_factory.getbasetemp() / "fold.pt"
    source = make_source(path, config, length=17, seed=seed, smallest_variance=variance)
    for module in source.module.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eps = float(
                np.float32(module.eps)
            )  # an ONNX attribute holds single precision
    graph = in_double(capture(source, 17, 20))
    folded = run_plan(ONNX, graph)
    left = operators(folded).count("BatchNormalization")
    assert left == (1 if isinstance(config, WangResNetConfig) else 0)  # its BN-only shortcut
    x = np.random.default_rng(seed).standard_normal((2, 2, 17))
    expected = eager_double(source, x)
    (actual,) = ReferenceEvaluator(ir.to_proto(folded.model)).run(None, {"signal": x})
    assert actual.dtype == np.float64
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=DOUBLE_ROUNDING * np.abs(expected).max()
    )


def test_evaluation_used_here_notices_a_changed_weight():
    one, other = graph(), graph()
    other.model.graph.initializers["w"].const_value = ir.tensor(
        other.model.graph.initializers["w"].const_value.numpy() * np.float32(1.01), name="w"
    )
    assert np.abs(evaluate(one)[0] - evaluate(other)[0]).max() > 1e-3
