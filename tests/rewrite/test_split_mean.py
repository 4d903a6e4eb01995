from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from rewrite.onnx_text import parse, refusal, rewritten
from support import make_checkpoint, make_source, operators
from support import run as run_command
from tcn_export.capture import capture
from tcn_export.cli.export import main as export_command
from tcn_export.models.tcn import TCNConfig
from tcn_export.rewrite.base import Refused, run, run_plan
from tcn_export.rewrite.plans import ONNX
from tcn_export.rewrite.split_mean import SplitMean, stages
from tcn_export.targets.onnxruntime import OnnxRuntimeRunner, build


def graph(shape="N,3,1000", axes="{2}", keep=0, out="float[N,3] y", more=""):
    return parse(f"""
        g (float[{shape}] x) => ({out}) <int64[1] a = {axes}> {{
            y = ReduceMean <keepdims = {keep}> (x, a)
            {more}
        }}""")


@pytest.mark.parametrize(
    ("options", "added"),
    [
        ({}, ["Reshape", "ReduceMean"]),
        ({"axes": "{-1}"}, ["Reshape", "ReduceMean"]),
        ({"keep": 1, "out": "float[N,3,1] y"}, ["Reshape", "ReduceMean"]),
        ({"shape": "N,3,90000"}, ["Reshape", "ReduceMean"]),
        ({"shape": "N,3,1009"}, ["Pad", "Reshape", "ReduceSum", "Div"]),
        ({"shape": "N,3,8072"}, ["Pad", "Reshape", "ReduceSum", "Div"]),
        ({"shape": "N,3,L"}, ["Shape", "Neg", "Mod", "Concat", "Pad", "Reshape", "ReduceSum",
                              "Cast", "Div"]),
        ({"out": "float[N,3] y, float[N,3,1000] z", "more": "z = Relu (x)"},
         ["Reshape", "ReduceMean", "ReduceMean", "Relu"]),
    ],
)  # fmt: skip
def test_mean_is_taken_in_two_stages(options, added):
    result = rewritten(SplitMean(), graph(**options), tolerance=1e-6)
    last = {"Relu": [], "Div": ["ReduceSum"]}.get(added[-1], ["ReduceMean"])
    assert operators(result) == [*added, *last]


@pytest.mark.parametrize("steps", [1, 63, 64, 65, 1000, 4003])
def test_mean_of_any_length_is_that_of_the_steps_there_are(steps):
    result = run(SplitMean(), graph("N,3,L"))
    x = np.random.default_rng(0).standard_normal((2, 3, steps)).astype(np.float32) + 5
    (y,) = ReferenceEvaluator(ir.to_proto(result.model)).run(None, {"x": x})
    np.testing.assert_allclose(y, x.astype(np.float64).mean(2), rtol=1e-6)


def test_mean_over_another_axis_is_left_alone():
    assert "averages over another axis than time" in refusal(
        SplitMean(), graph(axes="{1}", out="float[N,1000] y")
    )


def test_axes_of_an_older_operator_set_are_left_alone():
    old = parse(
        "g (float[N,3,999] x) => (float[N,3] y) { y = Relu (x) }".replace(
            "float[N,3] y", "float[N,3,999] y"
        )
    )
    (node,) = old.model.graph
    node.op_type = "ReduceMean"
    node.attributes["axes"] = ir.AttrInt64s("axes", [2])
    with pytest.raises(Refused, match="its axes are an attribute"):
        SplitMean().apply(node)


@pytest.mark.parametrize("shape", ["N,3,256", "N,3,1"])
def test_short_means_are_no_candidates(shape):
    step = run(SplitMean(), graph(shape)).history[-1]
    assert (step.modified, step.refusals) == (0, ())


@given(steps=st.integers(257, 1_000_000))
def test_stages_are_about_equal_and_hold_all_steps(steps):
    outer, inner = stages(steps)
    assert steps <= outer * inner < steps + inner
    assert max(outer, inner) <= 2.1 * steps**0.5


@pytest.mark.parametrize("length", [1021, 8072, 9000, 9001, "dynamic"])
def test_long_windows_keep_their_parity(length, tmp_path):
    """Lengths with and without divisors, through the real command."""
    config = TCNConfig(in_channels=2, outputs=3, widths=(8,), dilations=(1,), head="mean")
    trained = 9001 if length == "dynamic" else length
    model = make_checkpoint(tmp_path / "m.pt", config, length=trained)
    ran = run_command(
        export_command, model, "--target", "onnx", "--length", length, "--out", tmp_path, "-v"
    )
    assert ran.code == 0, ran.stdout


def test_error_of_a_long_mean_stays_that_of_a_short_one(tmp_path):
    """Constant signals are the worst: every rounding goes the same way."""
    config = TCNConfig(in_channels=1, outputs=4, widths=(8,), dilations=(1,), head="mean")
    source = make_source(tmp_path / "m.pt", config, length=9000)

    def worst(plan):
        runner_of = build(run_plan(plan, capture(source, 9000, 20)), "float32")
        runner = OnnxRuntimeRunner(runner_of.files["model.onnx"], runner_of.signature)
        x = np.full((1, 1, 9000), 1.3, np.float32)
        double = source.module.double()(torch_double(x)).numpy()
        source.module.float()
        return np.abs(runner.run({"signal": x})["logits"] - double).max()

    assert worst(ONNX) < worst([r for r in ONNX if r.name != "split_mean"]) / 4


def torch_double(x):
    import torch

    return torch.from_numpy(x).double()
