"""What windows with labels can decide, and what they cannot, through the real commands."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from support import make_checkpoint, make_data, run
from sure_windows import sure_windows
from tcn_export import ExportOptions, export, load_bundle
from tcn_export.cli.bench import main as bench_command
from tcn_export.cli.export import main as export_command
from tcn_export.cli.inspect import main as inspect_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.models.tcn import TCNConfig
from tcn_export.source.checkpoint import load_source
from test_verification import forge_golden

TOO_FEW = "NOT DECIDABLE: 150 windows cannot show a loss below 1 point; 299 can."
ADVICE = "more windows, a larger --max-drop, or --allow-undecided"
WAIVED = "the accuracy bound (150 windows, 299 needed)"
INT8 = ("--target", "onnx", "--precision", "int8", "--layout", "1d")


def sure(path, model, windows):
    source = load_source(model)
    units = {"center": source.center[:, None], "spread": source.spread[:, None]}
    shape = (source.channels, source.length)
    return sure_windows(path, source.module, windows, shape, **units)


@pytest.fixture(scope="module")
def few(tiny_model, tmp_path_factory):
    return sure(tmp_path_factory.mktemp("few") / "few.npz", tiny_model, 150)


@pytest.fixture(scope="module")
def undecided(tiny_model, few, tmp_path_factory):
    """An export that so few windows cannot decide, and how the command ended."""
    out = tmp_path_factory.mktemp("undecided")
    ran = run(export_command, tiny_model, *INT8, "--data", few, "--out", out)
    return ran, out / "tiny-onnx-int8"


@pytest.fixture(scope="module")
def waived(tiny_model, few, tmp_path_factory):
    """The same, allowed."""
    out = tmp_path_factory.mktemp("waived")
    options = [*INT8, "--data", few, "--out", out, "--allow-undecided"]
    return run(export_command, tiny_model, *options), out / "tiny-onnx-int8"


def test_too_few_windows_decide_nothing(undecided):
    ran, path = undecided
    assert ran.code == 3
    assert f"{TOO_FEW} Give {ADVICE}: {path}" in " ".join(ran.stdout.split())
    assert "PARITY LOST" not in ran.stdout
    manifest = load_bundle(path).manifest
    assert (manifest.verified, manifest.parity["verdict"]) == (False, "undecided")
    assert manifest.waived == ()
    assert "tcn-inspect" in ran.stdout


def test_what_was_undecided_never_passes_later(undecided, few):
    _, path = undecided
    for options in ([], ["--data", few]):
        ran = run(verify_command, path, *options)
        assert ran.code == 3
        assert f"{TOO_FEW} Export it again with {ADVICE}" in " ".join(ran.stdout.split())
    quiet = run(verify_command, path, "-q")
    assert (quiet.code, quiet.stdout) == (3, "")
    assert TOO_FEW in quiet.stderr
    assert "not decidable with the windows" in run(inspect_command, path).stdout


def test_lost_parity_outweighs_what_is_undecided(undecided, tmp_path):
    path = shutil.copytree(undecided[1], tmp_path / "b")
    with np.load(path / "golden.npz") as golden:
        twice = {k: 2 * golden[k] for k in ("real/float64/logits", "real/float32/logits")}
    forge_golden(path, **twice)
    ran = run(verify_command, path)
    assert ran.code == 3
    assert "PARITY LOST" in ran.stdout
    assert "NOT DECIDABLE" not in ran.stdout


def test_allowed_undecided_data_is_recorded_as_waived(waived):
    ran, path = waived
    assert ran.code == 0
    assert (
        "Warning: 150 windows cannot show a loss below 1 point; 299 can; waived" in ran.stderr
    )
    assert f"not verified ({WAIVED} waived)" in ran.stdout
    manifest = load_bundle(path).manifest
    assert (manifest.verified, manifest.parity["verdict"]) == (False, "pass")
    assert manifest.waived == (WAIVED,)
    (row,) = [r for r in manifest.parity["rows"] if r["status"] == "waived"]
    assert row["metric"] == "accuracy_lost_upper95_points"
    assert row["note"].startswith("150 windows cannot show")


def test_waived_bundle_verifies_again_but_stays_unverified(waived, few):
    _, path = waived
    for options in ([], ["--data", few]):
        ran = run(verify_command, path, *options, "--json")
        assert ran.code == 0
        assert (ran.json["verified"], ran.json["verdict"]) == (False, "pass")
        assert ran.json["waived"] == [WAIVED]
    assert f"no: waived {WAIVED}" in run(inspect_command, path).stdout
    bench = run(bench_command, path, "--rounds", 1)
    assert "waived the accuracy bound" in " ".join(bench.stdout.split())


def test_allowing_spares_no_loss_that_was_seen(tiny_model, tmp_path):
    data = make_data(tmp_path / "d.npz", tiny_model, 150)
    options = [*INT8, "--int8-only", "--data", data, "--allow-undecided", "--out", tmp_path]
    ran = run(export_command, tiny_model, *options, "--json")
    (row,) = [r for r in ran.json["parity"]["rows"] if "upper95" in r["metric"]]
    assert (ran.code, row["status"]) == (3, "fail")
    assert ran.json["waived"] == []
    assert ran.json["parity"]["loss"]["lost_points"] > 1


def test_enough_windows_decide(tiny_model, tmp_path):
    data = sure(tmp_path / "d.npz", tiny_model, 299)
    ran = run(export_command, tiny_model, *INT8, "--data", data, "--out", tmp_path)
    assert ran.code == 0, ran.stdout
    assert "299 windows, 0 answers changed; at most 1.00 points lost, 95 % bound" in ran.stdout


def test_no_number_of_windows_shows_that_nothing_is_lost(tiny_model, few, tmp_path):
    options = ExportOptions(precision="int8", data=few, out=tmp_path, max_drop=0, layout="1d")
    report = export(tiny_model, options).report
    assert report.verdict == "undecided"
    assert report.loss["fewest_windows"] is report.loss["needed_windows"] is None


def test_scores_of_both_sides_go_into_manifest_and_report(waived, few):
    _, path = waived
    manifest = json.loads((path / "manifest.json").read_text())
    scores, loss = manifest["parity"]["scores"], manifest["parity"]["loss"]
    assert json.loads((path / "report.json").read_text())["scores"] == scores
    assert scores["reference"]["accuracy"] == scores["actual"]["accuracy"] == 1.0
    assert [c["name"] for c in scores["actual"]["classes"]] == manifest["classes"]
    labels = np.load(few)["y_test"]
    assert np.trace(scores["actual"]["confusion"]) == len(labels)
    assert [c["support"] for c in scores["actual"]["classes"]] == np.bincount(
        labels, minlength=4
    ).tolist()
    assert (loss["lost_points"], loss["changed"], loss["windows"]) == (0, 0, 150)
    assert loss["upper_points"] == pytest.approx(100 * (1 - 0.05 ** (1 / 150)))
    assert loss["needed_windows"] == 299
    again = run(verify_command, path, "--data", few, "--json").json
    assert (again["scores"], again["loss"]) == (scores, loss)
    assert run(verify_command, path, "--json").json["scores"] is None


def test_full_table_of_classes_is_shown_where_more_was_asked_for(waived, few):
    _, path = waived
    plain = run(verify_command, path, "--data", few).stdout
    full = run(verify_command, path, "--data", few, "-v").stdout
    assert "accuracy  100.00 % -> 100.00 %" in plain
    assert "sensitivity" not in plain
    assert "sensitivity" in full
    assert "1.000 -> 1.000" in full


@pytest.mark.parametrize(
    ("windows", "max_drop", "code"), [(40, 20, 3), (120, 20, 0), (120, 0.01, 3)]
)
def test_regressions_are_decided_by_their_errors(windows, max_drop, code, tmp_path):
    config = TCNConfig(in_channels=2, outputs=3, widths=(6, 6), dilations=(1, 2))
    model = make_checkpoint(
        tmp_path / "m.pt", config, length=20, task="regression", classes=()
    )
    source = load_source(model)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2 * windows, 2, 20)).astype(np.float32)
    with torch.inference_mode():
        y = source.module(torch.from_numpy(x)).numpy()
    y = y + rng.standard_normal(y.shape).astype(np.float32)
    data = tmp_path / "d.npz"
    np.savez(data, x_train=x[:windows], y_train=y[:windows], x_test=x[windows:],
             y_test=y[windows:])  # fmt: skip
    options = [*INT8, "--max-drop", max_drop, "--data", data, "--out", tmp_path]
    ran = run(export_command, model, *options, "--json")
    assert ran.code == code
    parity = ran.json["parity"]
    before, after = parity["scores"]["reference"], parity["scores"]["actual"]
    assert before["rmse"] == pytest.approx(1, rel=0.2)
    assert 0.7 * before["rmse"] < before["mae"] < before["rmse"]
    assert before["r2"] > after["r2"] - 0.1
    loss = parity["loss"]
    assert (loss["changed"], loss["spoiled"]) == (None, None)
    assert (loss["upper_points"] is None) == (windows < 50)
    expected = {40: "undecided", 120: "pass" if code == 0 else "fail"}[windows]
    assert parity["verdict"] == expected
    again = run(verify_command, tmp_path / "m-onnx-int8", "--data", data)
    assert again.code == code
    assert "RMSE" in again.stdout
    assert "MAE" in again.stdout
    if windows == 40:
        ran = run(
            export_command, model, *options, "--allow-undecided", "--overwrite", "--json"
        )
        assert ran.code == 0
        assert ran.json["waived"] == ["the error bound (40 windows, 50 needed)"]


def test_bundle_without_absolute_errors_still_verifies(tmp_path):
    config = TCNConfig(in_channels=2, outputs=3, widths=(6, 6), dilations=(1, 2))
    model = make_checkpoint(
        tmp_path / "m.pt", config, length=20, task="regression", classes=()
    )
    x = np.random.default_rng(0).standard_normal((60, 2, 20)).astype(np.float32)
    y = np.random.default_rng(1).standard_normal((60, 3)).astype(np.float32)
    data = tmp_path / "d.npz"
    np.savez(data, x=x, y=y)
    options = ["--target", "onnx", "--layout", "1d", "--data", data, "--out", tmp_path]
    assert run(export_command, model, *options).code == 0
    path = tmp_path / "m-onnx-float32"
    with np.load(path / "golden.npz") as archive:
        arrays = {k: v for k, v in archive.items() if k != "windows/absolute_error"}
        errors = archive["windows/squared_error"]
    np.savez(path / "golden.npz", **arrays)
    forge_golden(path)
    manifest = json.loads((path / "manifest.json").read_text())
    for key in ("scores", "loss"):
        del manifest["parity"][key]
    (path / "manifest.json").write_text(json.dumps(manifest))
    ran = run(verify_command, path, "--data", data, "--json")
    assert ran.code == 0
    assert ran.json["scores"]["reference"]["mae"] is None
    assert ran.json["scores"]["actual"]["mae"] > 0
    for wrong in (-errors, np.full_like(errors, np.nan)):
        forge_golden(path, **{"windows/squared_error": wrong})
        ran = run(verify_command, path, "--data", data)
        assert ran.code == 1
        assert "errors of windows that are no numbers, or negative" in ran.stderr


def test_answers_per_step_count_as_many_trials_as_there_are_windows(tmp_path):
    config = TCNConfig(in_channels=2, outputs=3, widths=(6, 6), dilations=(1, 2), head="every")
    model = make_checkpoint(tmp_path / "m.pt", config, length=8)
    data = sure(tmp_path / "d.npz", model, 40)
    options = [*INT8, "--data", data, "--out", tmp_path, "--json"]
    ran = run(export_command, model, *options, "--max-drop", 5)
    assert ran.code == 3
    parity = ran.json["parity"]
    assert parity["verdict"] == "undecided"
    assert parity["loss"]["windows"] == 40
    assert parity["loss"]["fewest_windows"] == 59
    steps = np.array(parity["scores"]["reference"]["confusion"]).sum()
    assert steps == 40 * 8
    ran = run(export_command, model, *options, "--max-drop", 12, "--overwrite")
    assert ran.code == 0
