"""float16 through the real commands: random networks, raw offsets, numbers out of range."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support import NO_SHRINKING, TINY_TCN, make_checkpoint, make_data, make_source, run
from tcn_export.capture import capture
from tcn_export.cli.export import main as export_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.models.tcn import TCNConfig
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.half_precision import HalfPrecision
from tcn_export.rewrite.plans import ONNX
from tcn_export.source.checkpoint import load_source
from tcn_export.targets.intermediates import largest_values
from test_pipeline import ARCHITECTURES

FP16 = ("--target", "onnx", "--precision", "fp16")


def exported(model, folder, *options):
    """What the command told, and the model that it wrote."""
    ran = run(export_command, model, *FP16, "--out", folder, "--json", *options)
    path = folder / f"{model.stem}-onnx-float16"
    return ran, path, onnx.load_model_from_string((path / "model.onnx").read_bytes())


@settings(max_examples=6 if settings().max_examples <= 25 else 150, phases=NO_SHRINKING)
@given(
    config=ARCHITECTURES,
    length=st.integers(3, 40),
    dynamic=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_architecture_keeps_its_signal(tmp_path_factory, config, length, dynamic, seed):
    folder = tmp_path_factory.mktemp("half")
    # variances as training leaves them; others amplify each layer's noise thirty times
    model = make_checkpoint(
        folder / "m.pt", config, length=length, seed=seed, smallest_variance=0.3
    )
    options = ["--length", "dynamic"] if dynamic else []
    ran, path, proto = exported(model, folder, *options)
    assert ran.code == 0, [r for r in ran.json["parity"]["rows"] if r["status"] == "fail"]
    stages = {row["stage"] for row in ran.json["parity"]["rows"]}
    assert stages == {"before float16", "artifact", "rounded to float16"}
    for value in (*proto.graph.input, *proto.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    casts = {node.output[0]: node for node in proto.graph.node if node.op_type == "Cast"}
    assert not [cast for cast in casts.values() if cast.input[0] in casts]
    assert len({(c.input[0], c.attribute[0].i) for c in casts.values()}) == len(casts)
    assert run(verify_command, path).code == 0


PLAIN = ("--layout", "1d", "--keep-all-steps")
"""Where operators and their names are looked at."""


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory):
    """A network with one layer's output 1e5 times as large, and taken back behind it."""
    folder = tmp_path_factory.mktemp("overflow")
    config = TCNConfig(
        in_channels=3, outputs=4, widths=(8, 8, 8), dilations=(1, 2, 4), norm="none",
        convolutions=2,
    )  # fmt: skip
    source = make_source(folder / "plain.pt", config)
    state = source.module.state_dict()
    with torch.no_grad():
        for name, factor in (
            ("conv1.weight", 1e5),
            ("conv1.bias", 1e5),
            ("conv2.weight", 1e-5),
        ):
            state[f"blocks.1.body.{name}"].mul_(factor)
    model = make_checkpoint(folder / "big.pt", config, state_dict=state)
    return model, make_data(folder / "big.npz", model, 60)


def test_layer_beyond_the_range_stays_in_float32_and_is_named(overflowing, tmp_path):
    model, data = overflowing
    ran, path, proto = exported(model, tmp_path, "--data", data, *PLAIN)
    assert ran.code == 0, ran.stdout
    (step,) = [s for s in ran.json["rewrites"] if s["name"] == "half_precision"]
    beyond = [r["node"] for r in step["refusals"] if "beyond the 65504" in r["reason"]]
    assert beyond == [f"blocks.1.body.{n}" for n in ("conv1/Conv", "relu1/Relu", "conv2/Conv")]
    weights = {i.name: i.data_type for i in proto.graph.initializer}
    halves = {name for name, kind in weights.items() if kind == onnx.TensorProto.FLOAT16}
    assert "blocks.1.body.conv1.weight" in weights
    assert "blocks.0.body.conv1.weight.float16" in halves
    told = run(export_command, model, *FP16, "--data", data, "--out", tmp_path, "--overwrite")
    assert "left alone: blocks.1.body.conv1/Conv: reaches" in " ".join(told.stdout.split())
    assert run(verify_command, path, "--data", data).code == 0


def test_without_measuring_that_layer_would_overflow(overflowing, tmp_path, monkeypatch):
    model, data = overflowing
    monkeypatch.setattr(HalfPrecision, "_beyond", lambda *_: None)
    monkeypatch.setattr("tcn_export.rewrite.half_precision._too_small", lambda _: None)
    ran, _, _ = exported(model, tmp_path, "--data", data)
    assert ran.code == 3
    failed = [r for r in ran.json["parity"]["rows"] if r["status"] == "fail"]
    # ONNX Runtime alone, which computes in float32, would not have noticed
    assert {r["stage"] for r in failed if r["feed"] != "windows"} == {"rounded to float16"}
    assert "windows" in {r["feed"] for r in failed}


def test_raw_values_far_from_zero_keep_their_signal(tmp_path):
    """A pressure in pascal varies by some hundreds around 101,325; float16 ends at 65,504."""
    source = make_source(tmp_path / "plain.pt")
    state = source.module.state_dict()
    state["normalize.mean"].fill_(101_325.0)
    state["normalize.scale"].fill_(0.01)
    model = make_checkpoint(tmp_path / "raw.pt", smallest_variance=0.3, state_dict=state)
    ran, _, proto = exported(model, tmp_path, *PLAIN)
    assert ran.code == 0, ran.stdout
    assert [node.op_type for node in proto.graph.node][:3] == ["Sub", "Mul", "Cast"]


def test_largest_values_are_those_of_all_batches(tmp_path):
    source = load_source(make_checkpoint(tmp_path / "m.pt", TINY_TCN))
    graph = run_plan(ONNX, capture(source, 24, 20))
    rng = np.random.default_rng(0)
    feeds = [{"signal": rng.standard_normal((n, 3, 24)).astype(np.float32)} for n in (5, 1, 9)]
    feeds[1]["signal"] *= -50
    largest = largest_values(graph, feeds)
    assert largest["signal"] == np.abs(feeds[1]["signal"]).max()
    outputs = [
        source.module(torch.from_numpy(feed["signal"])).detach().abs().max() for feed in feeds
    ]
    assert largest["logits"] == pytest.approx(float(max(outputs)), rel=1e-4)
    names = {v.name for node in graph.model.graph for v in node.outputs}
    assert largest.keys() == {"signal"} | names
    feeds[2]["signal"][0, 0, 0] = np.nan
    assert largest_values(graph, feeds)["normalize/Sub"] == np.inf


def test_noise_in_place_of_windows_verifies_nothing(tmp_path):
    model = make_checkpoint(tmp_path / "m.pt", smallest_variance=0.3)
    ran, _, _ = exported(model, tmp_path, "--data", "noise")
    assert (ran.code, ran.json["verified"], ran.json["waived"]) == (0, False, ["real data"])
