"""Everything of the target ``trt`` that needs a device: ``pytest -m gpu``."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from support import run
from targets.stateful import CHANNELS, whole
from targets.tensorrt.conftest import UNSUPPORTED, stateful_deployment
from tcn_export.bench import measure_latency
from tcn_export.bundle import load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.errors import BundleError
from tcn_export.parity.metrics import sqnr_db
from tcn_export.parity.tolerance import float32_limit
from tcn_export.targets.tensorrt.probe import probe
from tcn_export.targets.tensorrt.runner import open_engine

pytestmark = pytest.mark.gpu
USER_MODELS = {"tcn_har": (9, 512), "tcn_wide": (16, 1024), "resnet_ecg": (12, 1000)}
on_the_device = pytest.mark.usefixtures("device")


def export(out, *arguments):
    return run(export_command, *arguments, "--target", "trt", "--out", out, "--json")


def test_a_device_that_the_library_does_not_take_gets_a_kit(refusal, tiny_model, tmp_path):
    if not refusal:
        pytest.skip("the library takes this device")
    ran = export(tmp_path, tiny_model)
    assert ran.code == 4
    kit = tmp_path / "tiny-trt-float32"
    assert UNSUPPORTED in ran.json["engine"]
    assert not list(kit.glob("*.engine"))
    done = subprocess.run(
        [sys.executable, kit / "build_engine.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert UNSUPPORTED in done.stderr


@on_the_device
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("name", USER_MODELS)
def test_engines_of_users_networks_keep_parity(
    name, precision, shared_bench, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(shared_bench)
    channels, length = USER_MODELS[name]
    source = ["--factory", f"user_models:{name}", "--input-shape", f"{channels},{length}"]
    data = [] if precision == "float32" else ["--data", "noise"]
    ran = export(tmp_path, *source, "--precision", precision, *data)
    assert ran.code == 0, ran.stderr
    told = ran.json
    assert told["engine"].startswith("built with tensorrt")
    assert (tmp_path / f"{name}-trt-{precision}" / "model.engine").is_file()
    assert {row["stage"] for row in told["parity"]["rows"]} >= {"artifact", "on the CPU"}
    print(name, precision, told["latency"], told["builder"]["latency"])
    types = set(told["builder"]["convolutions"].values())
    print(name, precision, told["builder"]["convolutions"], told["builder"]["reformats"])
    if precision == "int8":  # an account may leave kernels out, but must not contradict
        assert types <= {"int8", "unknown"}


@on_the_device
@pytest.mark.parametrize("layout", ["1d", "2d"])
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_engines_of_checkpoints_are_verified(
    precision, layout, tiny_model, tiny_data, tmp_path
):
    options = ["--precision", precision, "--data", tiny_data, "--max-drop", 5]
    ran = export(tmp_path, tiny_model, *options, "--layout", layout)
    assert ran.code == 0, ran.stderr
    assert ran.json["verified"] is True
    bundle = tmp_path / f"tiny-trt-{precision}"
    assert run(verify_command, bundle, "--data", tiny_data).code == 0


@on_the_device
def test_a_symbolic_length_and_a_batch_beyond_the_profile(tiny_model, tmp_path):
    ran = export(tmp_path, tiny_model, "--length", "dynamic", "--trt-batch", 2)
    assert ran.code == 0, ran.stderr
    runner = load_bundle(tmp_path / "tiny-trt-float32").runner()
    x = np.random.default_rng(0).standard_normal((5, 3, 20)).astype(np.float32)
    joined = runner.run({"signal": x})["logits"]
    alone = np.concatenate([runner.run({"signal": x[i : i + 1]})["logits"] for i in range(5)])
    np.testing.assert_allclose(joined, alone, rtol=1e-4, atol=1e-5)


@on_the_device
def test_the_script_of_a_kit_builds_and_proves(tiny_model, tmp_path):
    export(tmp_path, tiny_model)
    kit = tmp_path / "kit"
    shutil.copytree(tmp_path / "tiny-trt-float32", kit)
    (kit / "model.engine").unlink()
    done = subprocess.run(
        [sys.executable, kit / "build_engine.py"], capture_output=True, text=True, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert json.loads((kit / "device_report.json").read_text())["verdict"] == "pass"
    assert run(verify_command, kit).code == 0


@on_the_device
def test_an_engine_of_another_machine_is_refused(tiny_model, tmp_path):
    export(tmp_path, tiny_model)
    artifact = load_bundle(tmp_path / "tiny-trt-float32").artifact()
    sidecar = json.loads(artifact.files["model.engine.json"])
    sidecar["version"] = "1.2.3"
    files = {**artifact.files, "model.engine.json": json.dumps(sidecar).encode()}
    altered = type(artifact)(
        "trt", "float32", "window", artifact.model, files, artifact.signature,
        artifact.settings,
    )  # fmt: skip
    with pytest.raises(BundleError, match=r"was built with .* 1\.2\.3 for SM"):
        open_engine(altered)


@on_the_device
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_streaming_over_10000_steps(cuda_graph):
    x = np.random.default_rng(0).standard_normal((2, CHANNELS, 10_000)).astype(np.float32)
    deployed = stateful_deployment(cuda_graph)
    assert deployed.missing == ""
    runner, truth = open_engine(deployed.artifact), whole(x)
    for _ in range(2):  # the second time after a reset
        streamed = np.concatenate(
            [runner.run({"x": x[:, :, t : t + 1]})["y"] for t in range(x.shape[2])], axis=2
        )
        error = float(np.abs(streamed - truth).max())
        assert error <= float32_limit(0.0, float(np.abs(truth).max()))
        runner.reset()


@on_the_device
def test_a_cuda_graph_answers_the_same(tiny_model, tmp_path):
    export(tmp_path, tiny_model)
    artifact = load_bundle(tmp_path / "tiny-trt-float32").artifact()
    x = np.random.default_rng(0).standard_normal((1, 3, 24)).astype(np.float32)
    plain = open_engine(artifact, cuda_graph=False)
    graph = open_engine(artifact, cuda_graph=True)
    for scale in (1, 10):
        feeds = {"signal": x * np.float32(scale)}
        np.testing.assert_array_equal(plain.run(feeds)["logits"], graph.run(feeds)["logits"])
    if probe().runtime() == "tensorrt":  # TensorRT for RTX captures by itself
        assert (len(plain.loaded._graphs), len(graph.loaded._graphs)) == (0, 1)


@on_the_device
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_one_window_and_many_are_answered_alike(precision, tiny_model, tiny_data, tmp_path):
    options = ["--precision", precision, "--data", tiny_data, "--max-drop", 5]
    assert export(tmp_path, tiny_model, *options).code == 0
    runner = load_bundle(tmp_path / f"tiny-trt-{precision}").runner()
    x = np.load(tiny_data)["x_test"][:8]
    joined = runner.run({"signal": x})["logits"]
    alone = np.concatenate([runner.run({"signal": x[i : i + 1]})["logits"] for i in range(8)])
    assert sqnr_db(alone, joined.astype(np.float64)) >= (20 if precision == "int8" else 50)


@on_the_device
@pytest.mark.parametrize("name", USER_MODELS)
def test_latency_against_the_untouched_network(name, shared_bench, tmp_path, monkeypatch):
    """Printed, not judged: eager PyTorch on the same device, and the engine three times."""
    monkeypatch.syspath_prepend(shared_bench)
    channels, length = USER_MODELS[name]
    module = getattr(importlib.import_module("user_models"), name)()
    x = np.random.default_rng(0).standard_normal((1, channels, length)).astype(np.float32)

    class Eager:
        def __init__(self) -> None:
            self.module = module.cuda() if torch.cuda.is_available() else module

        def run(self, feeds):
            with torch.inference_mode():
                y = self.module(
                    torch.from_numpy(feeds["signal"]).to(next(module.parameters()))
                )
            return {"logits": y.cpu().numpy()}

        def reset(self) -> None:
            pass

    told = {"eager": measure_latency(Eager(), {"signal": x}, 0).to_json()}
    source = ["--factory", f"user_models:{name}", "--input-shape", f"{channels},{length}"]
    forms = {
        "every step, float32": ["--keep-all-steps"],
        "float32": [],
        "float32 2d": ["--layout", "2d"],
        "float16": ["--precision", "float16", "--data", "noise"],
        "int8": ["--precision", "int8", "--data", "noise"],
    }
    for form, options in forms.items():
        ran = export(tmp_path, *source, *options, "--overwrite")
        assert ran.code == 0, ran.stderr
        told[form] = ran.json["builder"]["latency"]
    print(name, json.dumps(told, indent=2))
