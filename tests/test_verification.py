from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from support import make_checkpoint, make_data, run
from tcn_export.bundle import load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.errors import DataError
from tcn_export.models.tcn import TCNConfig
from tcn_export.verification import verify


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, tiny_model, tiny_data):
    out = tmp_path_factory.mktemp("verify")
    for precision in ("float32", "int8"):
        options = ["--precision", precision, "--max-drop", 5, "--data", tiny_data, "-q"]
        ran = run(export_command, tiny_model, "--target", "onnx", *options, "--out", out)
        assert ran.code == 0
    return {p: out / f"tiny-onnx-{p}" for p in ("float32", "int8")}


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_bundle_verifies_again_with_and_without_its_data(bundles, tiny_data, precision):
    alone = verify(load_bundle(bundles[precision]))
    assert alone.verified
    with_data = verify(load_bundle(bundles[precision]), tiny_data)
    assert with_data.verified
    assert len(with_data.rows) > len(alone.rows)


def test_windows_of_the_export_are_judged_one_by_one(bundles, tiny_data):
    report = verify(load_bundle(bundles["int8"]), tiny_data)
    (row,) = [r for r in report.rows if r.metric == "accuracy_lost_upper95_points"]
    exported = load_bundle(bundles["int8"]).manifest.parity["rows"]
    (recorded,) = [r for r in exported if r["metric"] == "accuracy_lost_upper95_points"]
    assert (row.value, row.status) == (recorded["value"], "pass")


def test_other_windows_are_scored_and_not_judged(bundles, tiny_model, tmp_path):
    other = make_data(tmp_path / "other.npz", tiny_model, 100, seed=9)
    report = verify(load_bundle(bundles["float32"]), other)
    (row,) = [r for r in report.rows if r.metric == "accuracy"]
    assert (row.status, row.value) == ("recorded", 1.0)
    assert "not judged" in row.note


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((2, 5, 24), np.float32)}, "has 5 channels, but the model takes 3"),
        (
            {"x": np.zeros((2, 3, 30), np.float32)},
            "windows of 30 steps, but the model takes 24",
        ),
        ({"x": np.zeros((2, 3, 24), np.float32), "y": np.array([0, 9])}, "holds the label 9"),
        ({"x": np.zeros((2, 3, 24), np.float32), "y": np.zeros((2, 4))}, "floating targets"),
        (
            {"x": np.zeros((2, 3, 24), np.float32), "class_names": np.array(["a", "b"])},
            "names its classes a, b, but the model was trained on class 0",
        ),
        (
            {"x": np.zeros((2, 3, 24), np.float32), "y": np.zeros((2, 24), np.int64)},
            r"have the shape \(1, 24\); the model's answers `logits` need \(batch\)",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused(bundles, tmp_path, arrays, message):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataError, match=message):
        verify(load_bundle(bundles["float32"]), tmp_path / "data.npz")


@pytest.mark.parametrize("head", ["last", "every"])
def test_regressions_and_answers_per_step_verify_too(tmp_path, head):
    config = TCNConfig(in_channels=2, outputs=3, widths=(6, 6), dilations=(1, 2), head=head)
    regression = {"task": "regression", "classes": ()} if head == "last" else {}
    model = make_checkpoint(tmp_path / "m.pt", config, length=20, **regression)
    data = make_data(tmp_path / "d.npz", model, 120)
    for precision in ("float32", "int8"):
        options = ["--precision", precision, "--max-drop", 20, "--data", data]
        ran = run(export_command, model, "--target", "onnx", *options, "--out", tmp_path)
        assert ran.code == 0, ran.stdout
        bundle = tmp_path / f"m-onnx-{precision}"
        assert run(verify_command, bundle, "--data", data).code == 0


BLOCKED = ("torch", "onnx", "onnx_ir", "onnxscript", "lightning", "aeon", "sklearn", "scipy")
WITHOUT = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED}:
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Block())
from tcn_export.cli.verify import main
main()
"""


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_verifying_needs_neither_torch_nor_onnx(bundles, tiny_data, precision):
    arguments = [sys.executable, "-c", WITHOUT, bundles[precision], "--data", tiny_data]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "verified" in done.stdout
