"""What users do between convolutions: followed, or left alone and named; the same answers."""

from __future__ import annotations

import pytest

from odd_networks import STEPS
from support import run
from tcn_export.capture import capture
from tcn_export.cli.export import main as export_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.rewrite.base import run as rewritten
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.last_step import LastStep
from tcn_export.rewrite.plans import LAYOUTS, PLANS
from tcn_export.source.foreign import load_factory
from test_user_networks import check_answers

NAMED = {
    "max pool, rounded up": "it rounds its length up",
    "padded channels": "it crops or pads other axes as well as time",
    "group norm": "it mixes time with another axis",
    "time distributed": "it puts the steps into the batch",
    "attention": "it mixes time with another axis, as GroupNorm and attention do",
    "upsampled": "it makes several steps of one",
}
"""Why what stands in front of them is computed in full."""


@pytest.mark.parametrize("name", STEPS)
def test_it_is_pruned_exactly_or_named(name):
    source = load_factory("odd_networks:made", (4, 64), arguments={"name": name})
    graph = run_plan(PLANS["onnx"], capture(source, 64, 18))
    pruned = rewritten(LastStep({graph.signature.inputs[0].name: 2}), graph)
    step = pruned.history[-1]
    reasons = " ".join(refusal.reason for refusal in step.refusals)
    assert (name in NAMED) == bool(reasons), reasons
    assert NAMED.get(name, "") in reasons
    assert step.modified or name in NAMED
    for plan in LAYOUTS.values():
        check_answers(source, run_plan(plan, pruned), batch=3, shape=(4, 64))


@pytest.mark.parametrize(
    "more",
    [
        ("--target", "onnx", "--precision", "int8", "--data", "noise"),
        ("--target", "onnx", "--precision", "float16", "--opset", 18),
        ("--target", "trt", "--bundle-only"),
    ],
)
@pytest.mark.parametrize("name", ["average pool", "gate of one channel"])
def test_the_command_exports_and_verifies_it(name, more, tmp_path):
    arguments = f'{{"name": "{name}"}}'
    ran = run(
        export_command, "--factory", "odd_networks:made", "--factory-args", arguments,
        "--input-shape", "4,64", "--out", tmp_path, *more,
    )  # fmt: skip
    assert ran.code == 0, ran.stderr
    (bundle,) = tmp_path.iterdir()
    if "trt" not in more:
        assert run(verify_command, bundle).code == 0
