"""The real command: linted, and accepted by NVIDIA's parser; never called an engine."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from support import make_checkpoint, run
from tcn_export.bundle import load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.models.tcn import TCNConfig
from tcn_export.targets.cuda_driver import ask_driver
from tcn_export.targets.tensorrt import deployment

pytestmark = pytest.mark.skipif(
    bool(ask_driver().devices), reason="this machine has a CUDA device: see test_gpu"
)
USER_MODELS = {"tcn_har": "9,512", "tcn_wide": "16,1024", "resnet_ecg": "12,1000"}
NOT_BUILT = "not built: no CUDA device"
ARITHMETIC = {"float32": "float32", "float16": "float16", "int8": "int8"}


def export(out: Path, *arguments: object) -> tuple[int, dict]:
    ran = run(export_command, *arguments, "--target", "trt", "--out", out, "--json")
    return ran.code, ran.json


@pytest.mark.parametrize("precision", ARITHMETIC)
@pytest.mark.parametrize("name", USER_MODELS)
def test_users_networks_are_accepted_by_nvidia(
    name, precision, shared_bench, rtx, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(shared_bench)
    source = ["--factory", f"user_models:{name}", "--input-shape", USER_MODELS[name]]
    data = ["--data", "noise"] if precision == "int8" else []
    code, told = export(tmp_path, *source, "--precision", precision, *data)
    assert code == 4
    assert told["verified"] is False
    assert told["parity"]["verdict"] == "pass", "judged in ONNX Runtime on the CPU"
    assert told["engine"] == NOT_BUILT
    assert "accepted by NVIDIA's parser" in told["builder"]["parser"]
    assert "the engine was not executed" in told["builder"]["parser"]
    names = [
        node.name
        for node in ir.load(tmp_path / f"{name}-trt-{precision}" / "model.onnx").graph
        if node.op_type == "Conv"
    ]
    # the builder's own account, convolution by convolution; deploy has compared kernels,
    # strides, dilations, pads and groups with ours before
    assert told["builder"]["convolutions"] == dict.fromkeys(names, ARITHMETIC[precision])
    assert told["builder"]["log"] == []
    steps = {step["name"]: step["modified"] for step in told["rewrites"]}
    assert (steps["last_step"] > 0) is (name != "resnet_ecg"), "which means over all steps"
    assert told["latency"] is None
    assert not list(tmp_path.rglob("*.engine"))


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("layout", ["1d", "2d"])
def test_own_checkpoints_in_both_layouts(
    precision, layout, tiny_model, tiny_data, rtx, tmp_path
):
    options = ["--precision", precision, "--data", tiny_data, "--layout", layout]
    code, told = export(tmp_path, tiny_model, *options, "--max-drop", 5)
    assert code == 4, told
    assert told["parity"]["verdict"] == "pass"
    # what overflows on the stress set stays in float32, and is named
    refused = {r["node"] for step in told["rewrites"] for r in step["refusals"]}
    assert told["builder"]["convolutions"] == {
        name: "float32" if name in refused else precision
        for name in told["builder"]["convolutions"]
    }
    if precision == "int8":
        coverage = told["quantization"]["coverage"]
        assert coverage["integer_convolutions"] == coverage["convolutions"] > 0
        assert coverage["counted_by"] == "NVIDIA's builder"
        assert told["quantization"]["dialect"] == "tensorrt"


@pytest.mark.parametrize("head", ["last", "mean", "every"])
def test_a_symbolic_length_has_a_profile(head, rtx, tmp_path):
    config = TCNConfig(in_channels=3, outputs=4, widths=(8, 8), dilations=(1, 2), head=head)
    model = make_checkpoint(tmp_path / "model.pt", config)
    code, told = export(tmp_path, model, "--length", "dynamic", "--trt-batch", 4)
    assert code == 4
    assert told["settings"]["profiles"] == {"signal": [[1, 3, 12], [1, 3, 24], [4, 3, 49]]}


def test_the_kit_is_complete_and_self_consistent(tiny_model, tmp_path):
    code, _ = export(tmp_path, tiny_model)
    assert code == 4
    bundle = load_bundle(tmp_path / "tiny-trt-float32")
    assert set(bundle.files) == {
        "model.onnx", "golden.npz", "layers.npz", "report.json", "report.html",
        "build_engine.py",
        "README.md",
    }  # fmt: skip
    page = bundle.files["README.md"].decode()
    assert NOT_BUILT in page
    assert "$" not in page.replace("$ ", "")
    assert "--minShapes=signal:1x3x24" in page
    assert "from 1 x 3 x 24 to 32 x 3 x 24" in page
    assert "| 6.1, 6.2 | 10.3 |" in page
    assert page.count("--stronglyTyped") == 1, "with TensorRT 10; 11 has no such flag"
    assert "tools/write_for_tensorrt8.py" in page


@pytest.mark.parametrize(
    ("options", "there", "not_there"),
    [
        (["--trt-version", "11"], "TensorRT 11 or newer", "| 6.1, 6.2 |"),
        (["--trt-version", "rtx"], "TensorRT for RTX", "JetPack"),
        (["--precision", "float16"], "--fp16", "--int8"),
    ],
)
def test_the_page_of_a_kit_is_about_what_it_was_exported_for(
    options, there, not_there, tmp_path
):
    config = TCNConfig(  # which PyTorch can write in operator set 17
        in_channels=3, outputs=4, widths=(8, 8), dilations=(1, 2), head="last",
        causal_padding="crop",
    )  # fmt: skip
    model = make_checkpoint(tmp_path / "model.pt", config)
    assert export(tmp_path, model, *options)[0] == 4
    (kit,) = tmp_path.glob("model-trt-*")
    page = (kit / "README.md").read_text()
    assert there in page
    assert not_there not in page


def test_quiet_is_not_silent_about_what_is_missing(tiny_model, tmp_path):
    ran = run(export_command, tiny_model, "--target", "trt", "--out", tmp_path, "-q")
    assert ran.code == 4
    assert ran.stdout == ""
    assert "not verified (the engine is not built: no CUDA device)" in ran.stderr


def test_bundle_only_waives_the_device(tiny_model, tmp_path):
    ran = run(
        export_command, tiny_model, "--target", "trt", "--out", tmp_path, "--bundle-only"
    )
    assert ran.code == 0
    assert "python3 build_engine.py" in ran.stdout
    manifest = load_bundle(tmp_path / "tiny-trt-float32").manifest
    assert manifest.waived == ("a run on the device",)
    assert manifest.verified is False
    assert manifest.engine == NOT_BUILT


def test_a_kit_cannot_be_verified_without_a_device(tiny_model, tmp_path):
    export(tmp_path, tiny_model)
    ran = run(verify_command, tmp_path / "tiny-trt-float32")
    assert ran.code == 4
    assert "cannot run here: no CUDA device" in ran.stderr
    assert "build_engine.py" in ran.stderr


def test_lost_parity_is_worse_than_a_missing_device(tiny_model, tmp_path, monkeypatch):
    from planting import FAULTS
    from tcn_export.rewrite import plans

    monkeypatch.setitem(plans.PLANS, "trt", FAULTS["one weight changed by 1 %"])
    code, told = export(tmp_path, tiny_model)
    assert code == 3
    assert {row["stage"] for row in told["parity"]["rows"] if row["status"] == "fail"} == {
        "on the CPU"
    }


def test_what_the_lint_finds_ends_the_export(tiny_model, tmp_path):
    ran = run(export_command, tiny_model, "--target", "trt", "--opset", 21, "--out", tmp_path)
    assert ran.code == 1
    assert "TensorRT 10.3 (JetPack 6.1 and 6.2) does not take this graph" in ran.stderr
    assert "--opset 20" in ran.stderr
    assert not list(tmp_path.glob("tiny*"))
    later = ["--opset", 21, "--trt-version", "10.16"]
    assert export(tmp_path, tiny_model, *later)[0] == 4


def test_without_nvidias_parser_the_kit_says_that_it_was_not_asked(
    tiny_model, tmp_path, monkeypatch
):
    found = deployment.probe()
    monkeypatch.setattr(deployment, "probe", lambda: type(found)(found.driver, {}))
    code, told = export(tmp_path, tiny_model)
    assert code == 4
    assert told["builder"]["parser"] == "not asked: tensorrt_rtx is not installed"
    assert told["engine"] == NOT_BUILT


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--dla-core", "0"], 2, "computes in float16 and int8 only"),
        (["--gpu-fallback"], 2, "give --dla-core"),
        (["--dla-core", "0", "--precision", "float16"], 2, "--trt-batch 1"),
        (["--dla-core", "0", "--precision", "float16", "--trt-batch", "1"], 1,
         "Give --layout 2d"),
        (["--dla-core", "0", "--precision", "float16", "--trt-batch", "1", "--trt-version",
          "10.16"], 2, "does not support the accelerator"),
        (["--precision", "int8"], 2, "int8 needs real windows"),
        (["--trt-batch", "0"], 2, "0 is not in the range"),
        (["--trt-runtime", "rtxx"], 2, "Did you mean 'rtx'"),
    ],
)  # fmt: skip
def test_wrong_options(options, code, message, tiny_model, tmp_path):
    ran = run(export_command, tiny_model, "--target", "trt", "--out", tmp_path, *options)
    assert ran.code == code
    assert message in ran.stderr
    assert not list(tmp_path.iterdir())


def test_an_accelerator_with_fallback_names_what_falls_back(tiny_model, rtx, tmp_path):
    asked = ["--dla-core", "0", "--gpu-fallback", "--precision", "float16", "--trt-batch", "1"]
    code, told = export(tmp_path, tiny_model, *asked, "--layout", "2d")
    assert code == 4
    falling = told["builder"]["gpu_fallback"]
    assert any("Gemm" in line for line in falling)
    convolutions = [line for line in falling if line.startswith("Conv ")]
    assert all("computes in float32" in line for line in convolutions), "what overflows"


def test_options_of_tensorrt_belong_to_it(tiny_model, tmp_path):
    ran = run(export_command, tiny_model, "--target", "onnx", "--trt-batch", "4")
    assert ran.code == 2
    assert "options of TensorRT were given for the target onnx" in ran.stderr
