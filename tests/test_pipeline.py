"""Random architectures go through the real command, from checkpoint to verified bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from architectures import ARCHITECTURES, UNLUCKY
from support import NO_SHRINKING, make_checkpoint, make_data, run
from tcn_export import ExportOptions, export, load_bundle, verify
from tcn_export.cli.export import main as export_command
from tcn_export.cli.inspect import main as inspect_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.errors import UsageError
from tcn_export.models.resnet1d import WangResNetConfig
from tcn_export.models.tcn import TCNConfig


def unlucky(test):
    for config, length, dynamic, seed in UNLUCKY:
        test = example(config=config, length=length, dynamic=dynamic, seed=seed)(test)
    return test


@unlucky
@settings(max_examples=10 if settings().max_examples <= 25 else 150, phases=NO_SHRINKING)
@given(
    config=ARCHITECTURES,
    length=st.integers(3, 40),
    dynamic=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_architecture_exports_and_verifies(
    tmp_path_factory, config, length, dynamic, seed
):
    folder = tmp_path_factory.mktemp("any")
    model = make_checkpoint(folder / "m.pt", config, length=length, seed=seed)
    options = ["--length", "dynamic"] if dynamic else []
    ran = run(export_command, model, "--target", "onnx", "--out", folder, "--json", *options)
    assert ran.code == 0, ran.stdout
    graph = onnx.load_model_from_string(
        (folder / "m-onnx-float32" / "model.onnx").read_bytes()
    )
    operators = [node.op_type for node in graph.graph.node]
    crops = next(s for s in ran.json["rewrites"] if s["name"] == "crop_to_padding")
    assert crops["refusals"] == []
    if "Pad" in operators and dynamic:  # of a mean, behind all convolutions
        assert "Conv" not in operators[operators.index("Pad") :]
    if not isinstance(
        config, WangResNetConfig
    ):  # its BN-only shortcut has nothing to fold into
        assert "BatchNormalization" not in operators
    assert run(verify_command, folder / "m-onnx-float32").code == 0


@pytest.mark.parametrize("padding", ["left", "crop"])
@pytest.mark.parametrize("convolutions", [1, 2])
def test_temporal_blocks_export_to_convolutions_only(tmp_path, padding, convolutions):
    config = TCNConfig(
        in_channels=2,
        outputs=3,
        widths=(4, 6, 6),
        dilations=(1, 2, 4),
        convolutions=convolutions,
        causal_padding=padding,
    )
    model = make_checkpoint(tmp_path / "m.pt", config, length=40)
    options = ["--layout", "1d", "--keep-all-steps", "--out", tmp_path, "--json"]
    ran = run(export_command, model, "--target", "onnx", *options)
    raw = (tmp_path / "m-onnx-float32" / "model.onnx").read_bytes()
    nodes = onnx.load_model_from_string(raw).graph.node
    assert {n.op_type for n in nodes} == {
        "Sub",
        "Mul",
        "Conv",
        "Relu",
        "Add",
        "Gather",
        "Gemm",
    }
    for conv in (n for n in nodes if n.op_type == "Conv"):
        pads = next((list(a.ints) for a in conv.attribute if a.name == "pads"), [0, 0])
        assert pads[1] == 0, "no convolution may see the future"
    assert ran.json["verified"] is True


def test_library_does_what_the_command_does(tiny_model, tiny_data, tmp_path):
    options = ExportOptions(
        precision="int8", data=tiny_data, max_drop=5, out=tmp_path, name="x"
    )
    result = export(tiny_model, options)
    assert result.report.verified
    assert result.bundle.path == tmp_path / "x-onnx-int8"
    loaded = load_bundle(result.bundle.path)
    assert verify(loaded).verified
    feed = {"signal": np.load(tiny_data)["x_test"][:5]}
    assert loaded.runner(threads=1).run(feed)["logits"].shape == (5, 4)
    assert loaded.manifest.quantization["coverage"]["left_in_float"] == []
    assert loaded.manifest.rewrites[-1]["name"] == "quantize[onnxruntime-x86-vnni]"


def test_int8_without_labels_is_judged_by_noise_and_agreement(tiny_model, tmp_path):
    data = make_data(tmp_path / "d.npz", tiny_model, 200, y_train=None, y_test=None)
    options = ["--target", "onnx", "--precision", "int8", "--data", data, "--out", tmp_path]
    ran = run(export_command, tiny_model, *options, "--json")
    rows = {r["metric"]: r for r in ran.json["parity"]["rows"] if r["feed"] == "windows"}
    assert rows["sqnr_db"]["limit"] == 20
    assert rows["agreement"]["limit"] == 0.98
    expected = {r["status"] for r in rows.values()} == {"pass"}
    assert (ran.code == 0) is expected
    bundle = tmp_path / "tiny-onnx-int8"
    assert run(verify_command, bundle, "--data", data).code == ran.code


def test_int8_beyond_max_drop_fails_and_keeps_the_bundle(tiny_model, tiny_data, tmp_path):
    options = [
        "--target",
        "onnx",
        "--precision",
        "int8",
        "--data",
        tiny_data,
        "--out",
        tmp_path,
    ]
    ran = run(export_command, tiny_model, *options, "--max-drop", "0.01")
    assert ran.code == 3
    assert "PARITY LOST" in ran.stdout
    bundle = tmp_path / "tiny-onnx-int8"
    assert load_bundle(bundle).manifest.verified is False
    again = run(verify_command, bundle)
    assert again.code == 3
    assert "verdict of the export" in again.stdout


def test_calibration_sees_training_windows_only_and_as_many_as_it_may(tiny_model, tmp_path):
    data = dict(np.load(make_data(tmp_path / "d.npz", tiny_model, 60)))
    options = ExportOptions(
        precision="int8",
        data=tmp_path / "d.npz",
        max_drop=50,
        out=tmp_path,
        overwrite=True,
        calibration_windows=24,
        layout="1d",  # which one is the fastest is chance
        int8_only=True,
    )

    def exported():
        np.savez(tmp_path / "d.npz", **data)
        result = export(tiny_model, options)
        assert result.bundle.manifest.quantization["windows"] == 24
        return result.bundle.files["model.onnx"]

    before = exported()
    data["x_test"] = 50 * data["x_test"]
    assert exported() == before
    data["x_train"] = 50 * data["x_train"]
    assert exported() != before


def test_noise_is_for_timing_only(tiny_model, tmp_path):
    options = ["--target", "onnx", "--precision", "int8", "--data", "noise", "--out", tmp_path]
    ran = run(export_command, tiny_model, *options, "--json")
    assert ran.code == 0
    assert (ran.json["verified"], ran.json["waived"]) == (False, ["real data"])
    assert ran.json["parity"]["verdict"] == "pass"
    text = run(verify_command, tmp_path / "tiny-onnx-int8").stdout
    assert "not verified (real data waived)" in text


def test_dynamic_length_takes_windows_of_any_length(tiny_model, tmp_path):
    options = ["--target", "onnx", "--length", "dynamic", "--out", tmp_path, "-q"]
    assert run(export_command, tiny_model, *options).code == 0
    bundle = load_bundle(tmp_path / "tiny-onnx-float32")
    assert bundle.manifest.signature.inputs[0].shape == ("batch", 3, "length")
    for length in (5, 24, 77):
        feed = {"signal": np.zeros((2, 3, length), np.float32)}
        assert bundle.runner().run(feed)["logits"].shape == (2, 4)


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_other_operator_sets_export_too(tiny_model, tmp_path, opset):
    options = ["--target", "onnx", "--opset", opset, "--out", tmp_path, "-q"]
    assert run(export_command, tiny_model, *options).code == 0
    raw = (tmp_path / "tiny-onnx-float32" / "model.onnx").read_bytes()
    assert onnx.load_model_from_string(raw).opset_import[0].version == opset


def test_operator_set_that_cannot_be_reached_is_an_error(tmp_path):
    config = TCNConfig(in_channels=2, outputs=2, widths=(4,), dilations=(1,))  # pads: Pad-18
    model = make_checkpoint(tmp_path / "m.pt", config)
    ran = run(export_command, model, "--target", "onnx", "--opset", 17, "--out", tmp_path)
    assert ran.code == 1
    assert "cannot be expressed in operator set 17: PyTorch's exporter stayed" in ran.stderr


def test_inspect_tells_what_a_bundle_and_a_checkpoint_are(tiny_model, tmp_path):
    assert (
        run(export_command, tiny_model, "--target", "onnx", "--out", tmp_path, "-q").code == 0
    )
    bundle = tmp_path / "tiny-onnx-float32"
    assert run(inspect_command, bundle, "--json").json == json.loads(
        (bundle / "manifest.json").read_text()
    )
    assert "float32 batch x 3 x 24" in run(inspect_command, bundle).stdout
    model = run(inspect_command, tiny_model, "--json").json
    assert (model["architecture"], model["task"]) == ("tcn", "classification")
    assert run(inspect_command, Path("none.pt")).code == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"opset": 16},
        {"length": -3},
        {"length": 1.5},
        {"length": 2_000_000},
        {"calibration_windows": 0},
        {"max_drop": -1},
        {"max_drop": float("nan")},
        {"max_drop": float("inf")},
        {"seed": -1},
    ],
)
def test_options_out_of_range_are_refused_by_the_library_too(changes):
    with pytest.raises(UsageError, match="expected"):
        ExportOptions(**changes)


def test_paths_may_be_text(tiny_model, tmp_path):
    result = export(str(tiny_model), ExportOptions(out=str(tmp_path)))
    assert verify(str(result.bundle.path)).verified


def test_options_that_contradict_each_other_are_refused_by_the_library_too():
    with pytest.raises(UsageError, match="int8 needs real windows"):
        ExportOptions(precision="int8")
