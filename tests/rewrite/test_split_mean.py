from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewrite.onnx_text import parse, refusal, rewritten
from support import make_source, operators
from tcn_export.capture import capture
from tcn_export.models.tcn import TCNConfig
from tcn_export.rewrite.base import Refused, run, run_plan
from tcn_export.rewrite.plans import ONNX
from tcn_export.rewrite.split_mean import SplitMean, _stages
from tcn_export.targets.onnxruntime import OnnxRuntimeRunner, build


def graph(shape="N,3,1000", axes="{2}", keep=0, out="float[N,3] y", more=""):
    return parse(f"""
        g (float[{shape}] x) => ({out}) <int64[1] a = {axes}> {{
            y = ReduceMean <keepdims = {keep}> (x, a)
            {more}
        }}""")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"axes": "{-1}"},
        {"keep": 1, "out": "float[N,3,1] y"},
        {"shape": "N,3,257", "out": "float[N,3] y, float[N,3,257] z", "more": "z = Relu (x)"},
    ],
)
def test_mean_is_taken_in_two_stages(options):
    if "257" in options.get("shape", ""):
        options = {**options, "shape": "N,3,272", "out": options["out"].replace("257", "272")}
    result = rewritten(SplitMean(), graph(**options), tolerance=1e-6)
    found = operators(result)
    assert (found.count("Reshape"), found.count("ReduceMean")) == (1, 2)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"axes": "{1}", "out": "float[N,1000] y"}, "averages over another axis than time"),
        ({"shape": "N,3,L"}, "the length is not known"),
        ({"shape": "N,3,1009"}, "1009 steps do not divide into two stages"),
        ({"shape": "N,3,1006"}, "1006 steps do not divide into two stages"),
    ],
)
def test_other_means_are_left_alone_with_the_reason(options, reason):
    assert reason in refusal(SplitMean(), graph(**options))


@pytest.mark.parametrize("shape", ["N,3,256", "N,3,1"])
def test_short_means_are_no_candidates(shape):
    step = run(SplitMean(), graph(shape)).history[-1]
    assert (step.modified, step.refusals) == (0, ())


@given(steps=st.integers(257, 100_000))
def test_stages_are_two_factors_of_some_size(steps):
    try:
        longer, shorter = _stages(steps)
    except Refused:
        assert all(steps % n for n in range(8, int(steps**0.5) + 1))
    else:
        assert longer * shorter == steps
        assert longer >= shorter >= 8


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
