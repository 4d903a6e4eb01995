"""The script of the device kit, started as users do, as far as it goes without a device."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tcn_export.errors import BundleError, TargetUnavailableError
from tcn_export.kit import proof, script
from tcn_export.targets.cuda_driver import Device, Driver, ask_driver
from tcn_export.targets.tensorrt.probe import Probe

DEVICE = Device("GPU", "8.9", 8192, is_integrated=False)
no_device = pytest.mark.skipif(bool(ask_driver().devices), reason="there is a CUDA device")


def start(kit: Path, *arguments: str, python: str = sys.executable):
    command = [python, kit / "build_engine.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@no_device
def test_it_builds_as_far_as_rtx_goes_and_ends_with_4(kits, rtx, tmp_path):
    kit = shutil.copytree(kits / "tiny-trt-int8", tmp_path / "kit")
    before = sorted(path.name for path in kit.iterdir())
    done = start(kit)
    assert done.returncode == 4, done.stderr
    assert "no CUDA device" in done.stderr
    assert "accepted and built by NVIDIA's code (tensorrt_rtx 1.7" in done.stderr
    assert "the engine was not executed" in done.stderr
    assert sorted(path.name for path in kit.iterdir()) == before, "nothing was written"


@no_device
def test_without_any_tensorrt_it_ends_with_4(kits):
    done = start(kits / "tiny-trt-float32", "--runtime", "tensorrt")
    assert done.returncode == 4
    assert "This script needs an NVIDIA GPU, and TensorRT 10.3 or newer" in done.stderr


OLD_PYTHON = shutil.which("python3.8")


@pytest.mark.skipif(OLD_PYTHON is None, reason="no Python 3.8 on this machine")
def test_it_runs_under_python_38(kits, tmp_path):
    version = subprocess.run([OLD_PYTHON, "-V"], capture_output=True, text=True, check=False)
    if version.returncode or "3.8" not in version.stdout:
        pytest.skip(f"python3.8 does not start: {version.stderr.strip()}")
    probe = subprocess.run(
        [OLD_PYTHON, "-c", "import numpy"], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip("numpy is not installed for Python 3.8")
    done = start(kits / "tiny-trt-float32", python=OLD_PYTHON)
    assert done.returncode == 4, done.stderr


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_altered_files_are_refused(kits, tmp_path, name):
    folder = shutil.copytree(kits / "tiny-trt-float32", tmp_path / "kit")
    (folder / name).write_bytes((folder / name).read_bytes() + b"\0")
    done = start(folder)
    assert done.returncode == 1
    assert f"{name} is not the file that was exported" in done.stderr
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} cannot be read"):
        proof.Kit(str(folder))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": {}, "files": {}}'])
def test_damaged_manifests_are_one_kind_of_error(kits, tmp_path, text):
    folder = shutil.copytree(kits / "tiny-trt-float32", tmp_path / "kit")
    (folder / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=r"manifest\.json is damaged|`runtime` .* altered"):
        proof.Kit(str(folder))


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "int9"},
        {"waived": None},
        {"waived": [1]},
        {"states": [{}]},
        {"states": 1},
    ],
)
def test_manifests_that_say_what_they_cannot_are_refused(kits, tmp_path, change):
    folder = shutil.copytree(kits / "tiny-trt-float32", tmp_path / "kit")
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BundleError, match=r"manifest\.json is damaged"):
        proof.Kit(str(folder))


def test_streaming_needs_states(kits):
    done = start(kits / "tiny-trt-float32", "--stream")
    assert done.returncode == 2
    assert "it has no states to stream with" in done.stderr


def test_wrong_usage_is_2(kits):
    assert start(kits / "tiny-trt-float32", "--runtime", "cuda").returncode == 2


@pytest.mark.parametrize(
    ("version", "expected"), [("8.5.2.2", "--int8"), ("8.6.2", "trtexec --onnx=model.onnx")]
)
def test_an_old_tensorrt_gets_its_trtexec_line(kits, version, expected):
    kit = proof.Kit(str(kits / "tiny-trt-int8"))
    found = Probe(Driver("11.4", (), ""), {"tensorrt": version})
    with pytest.raises(TargetUnavailableError) as error:
        script._choose_runtime(kit, found, "auto")
    assert expected in str(error.value)
    assert "--stronglyTyped" not in str(error.value)
    assert error.value.exit_code == 4


def test_a_kit_that_lost_parity_at_its_export_is_not_built(kits, tmp_path):
    folder = shutil.copytree(kits / "tiny-trt-float32", tmp_path / "kit")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parity"]["verdict"] = "fail"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = start(folder)
    assert done.returncode == 3
    assert "PARITY LOST at the export" in done.stderr


def test_a_library_older_than_the_graph_was_exported_for_is_told(kits):
    kit = proof.Kit(str(kits / "tiny-trt-float32"))
    kit.settings = {**kit.settings, "version": "11"}
    found = Probe(Driver("12.6", (DEVICE,), ""), {"tensorrt": "10.16.1"})
    with pytest.raises(
        TargetUnavailableError, match=r"10\.16\.1 is too old .* for 11 and newer"
    ):
        script._choose_runtime(kit, found, "auto")
    assert script._choose_runtime(kit, Probe(found.driver, {"tensorrt": "11.4.0"}), "auto")


def test_without_numpy_it_says_how_to_get_it(kits, tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError")
    done = subprocess.run(
        [sys.executable, kits / "tiny-trt-float32" / "build_engine.py"],
        capture_output=True, text=True, check=False, env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 4
    assert "sudo apt install python3-numpy" in done.stderr
    assert "Traceback" not in done.stderr
