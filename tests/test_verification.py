from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest

from support import make_checkpoint, make_data, run, run_without_torch
from tcn_export.bundle import load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.errors import DataError
from tcn_export.models.tcn import TCNConfig
from tcn_export.verification import verify

PRECISIONS = ("float32", "float16", "int8")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, tiny_model, tiny_data):
    out = tmp_path_factory.mktemp("verify")
    for precision in PRECISIONS:
        options = ["--precision", precision, "--max-drop", 5, "--data", tiny_data, "-q"]
        ran = run(export_command, tiny_model, "--target", "onnx", *options, "--out", out)
        assert ran.code == 0
    return {p: out / f"tiny-onnx-{p}" for p in PRECISIONS}


@pytest.mark.parametrize("precision", PRECISIONS)
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
    for precision in PRECISIONS:
        options = ["--precision", precision, "--max-drop", 20, "--data", data]
        ran = run(export_command, model, "--target", "onnx", *options, "--out", tmp_path)
        assert ran.code == 0, ran.stdout
        bundle = tmp_path / f"m-onnx-{precision}"
        assert run(verify_command, bundle, "--data", data).code == 0


def forge_golden(bundle, **changes):
    """Change arrays of the golden data and correct the hash."""
    with np.load(bundle / "golden.npz") as archive:
        arrays = dict(archive)
    np.savez(bundle / "golden.npz", **(arrays | changes))
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    raw = (bundle / "golden.npz").read_bytes()
    manifest["files"]["golden.npz"] = hashlib.sha256(raw).hexdigest()
    path.write_text(json.dumps(manifest))


def moved(answers, share):
    """The same answers but for a share of them."""
    changed = answers.copy()
    changed[: int(np.ceil(share * len(answers)))] += 1
    return changed % 4


@pytest.mark.parametrize(
    ("precision", "share", "code"),
    [
        ("float32", 0.0, 0),
        ("float32", 0.003, 3),
        ("float16", 0.003, 0),
        ("float16", 0.01, 3),
    ],
)
def test_answers_stay_as_they_were(precision, share, code, bundles, tiny_data, tmp_path):
    bundle = shutil.copytree(bundles[precision], tmp_path / "b")
    answers = np.load(bundle / "golden.npz")["windows/answers"]
    forge_golden(bundle, **{"windows/answers": moved(answers, share)})
    assert run(verify_command, bundle, "--data", tiny_data).code == code


@pytest.mark.parametrize(("share", "code"), [(0.0, 0), (0.05, 3)])
def test_int8_without_labels_is_judged_again(share, code, tiny_model, tmp_path):
    data = make_data(tmp_path / "d.npz", tiny_model, 200, y_train=None, y_test=None)
    options = ["--target", "onnx", "--precision", "int8", "--data", data, "--out", tmp_path]
    assert run(export_command, tiny_model, *options).code == 0
    bundle = tmp_path / "tiny-onnx-int8"
    answers = np.load(bundle / "golden.npz")["windows/answers"]
    forge_golden(bundle, **{"windows/answers": moved(answers, share)})
    assert run(verify_command, bundle, "--data", data).code == code


@pytest.mark.parametrize(
    ("precision", "factor", "code"),
    [("float32", 1.0, 0), ("float32", 1.1, 3), ("float16", 1.0, 0), ("float16", 2.0, 3)],
)
def test_errors_of_a_regression_stay_as_they_were(precision, factor, code, tmp_path):
    config = TCNConfig(in_channels=2, outputs=3, widths=(6, 6), dilations=(1, 2))
    model = make_checkpoint(tmp_path / "m.pt", config, task="regression", classes=())
    data = make_data(tmp_path / "d.npz", model, 60)
    with np.load(data) as archive:
        arrays = dict(archive)
    arrays["y_test"] = arrays["y_test"] + np.float32(1)
    np.savez(data, **arrays)
    options = ["--target", "onnx", "--data", data, "--out", tmp_path, "--precision", precision]
    assert run(export_command, model, *options).code == 0
    bundle = tmp_path / f"m-onnx-{precision}"
    errors = np.load(bundle / "golden.npz")["windows/squared_error"]
    forge_golden(bundle, **{"windows/squared_error": factor * errors})
    ran = run(verify_command, bundle, "--data", data, "--json")
    assert ran.code == code
    assert "rms_error_moved" in {row["metric"] for row in ran.json["rows"]}


def test_bundle_without_outputs_or_feeds_is_not_verified(bundles, tmp_path):
    bundle = shutil.copytree(bundles["float32"], tmp_path / "b")
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "outputs": []}))
    ran = run(verify_command, bundle)
    assert (ran.code, "`manifest.outputs` is empty" in ran.stderr) == (1, True)
    path.write_text(json.dumps(manifest))
    forge_golden(bundle, feeds=np.zeros((0, 2), "U6"))
    ran = run(verify_command, bundle)
    assert ran.code == 1
    assert "golden.npz of" in ran.stderr


def test_golden_data_that_does_not_belong_is_an_error(bundles, tiny_data, tmp_path):
    path = bundles["float32"] / "golden.npz"
    answers = np.load(path)["windows/answers"]
    single = np.load(path)["normal/float32/logits"]
    for changes, message in (
        ({"windows/answers": answers[:-1]}, "keeps answers on other windows"),
        ({"normal/float32/logits": single[:-1]}, "do not belong together"),
        ({"normal/float32/logits": single.astype(np.float64)}, "do not belong together"),
        ({"normal/float32_error/logits": np.zeros(2)}, "golden.npz is damaged"),
    ):
        bundle = shutil.copytree(bundles["float32"], tmp_path / "b", dirs_exist_ok=True)
        forge_golden(bundle, **changes)
        ran = run(verify_command, bundle, "--data", tiny_data)
        assert (ran.code, message in ran.stderr) == (1, True), ran.stderr


def test_manifest_with_another_shape_is_an_error(bundles, tmp_path):
    bundle = shutil.copytree(bundles["float32"], tmp_path / "b")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["outputs"][0]["shape"] = ["batch", 5]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    ran = run(verify_command, bundle)
    assert (ran.code, "It was altered" in ran.stderr) == (1, True)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_verifying_needs_neither_torch_nor_onnx(bundles, tiny_data, precision):
    ran = run_without_torch("verify", bundles[precision], "--data", tiny_data)
    assert ran.code == 0, ran.stderr
    assert "verified" in ran.stdout
