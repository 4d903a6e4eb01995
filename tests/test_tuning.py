"""``tcn-bench --tune``: the fastest candidate that keeps parity becomes the bundle's model."""

from __future__ import annotations

import json
import shutil

from bundles import contents, guessing, slowed, write_candidates
from support import run, run_without_torch
from tcn_export import files, machine
from tcn_export.bundle import load_bundle
from tcn_export.cli.bench import main as bench_command
from tcn_export.cli.inspect import main as inspect_command
from tcn_export.cli.verify import main as verify_command

BRIEF = ["--rounds", 6]


def test_fastest_becomes_the_model_and_the_files_change_places(tunable):
    assert run(verify_command, tunable.path).code == 0
    ran = run(bench_command, tunable.path, "--tune", *BRIEF)
    assert ran.code == 0
    assert f"lean is the model now, slow was it before: {tunable.path}" in ran.stdout
    after = load_bundle(tunable.path)
    assert set(after.files) == set(tunable.files) - {"layout-lean.onnx"} | {"layout-slow.onnx"}
    assert after.manifest.model == "model.onnx"
    assert after.files["model.onnx"] == tunable.files["layout-lean.onnx"]
    assert after.files["layout-slow.onnx"] == tunable.files["model.onnx"]
    for name in ("layout-slower.onnx", "golden.npz", "report.json"):
        assert after.files[name] == tunable.files[name]
    assert run(verify_command, tunable.path).code == 0
    assert [path.name for path in tunable.path.parent.iterdir()] == ["bundle"]


def test_manifest_tells_what_was_measured_where(tunable):
    assert run(bench_command, tunable.path, "--tune", "--threads", 2, *BRIEF).code == 0
    manifest = load_bundle(tunable.path).manifest
    layout = manifest.layout
    assert (layout["choice"], layout["threads"]) == ("lean", 2)
    assert layout["measured_on"] == machine.host()
    assert [(c["name"], c["file"]) for c in layout["candidates"]] == [
        ("slow", "layout-slow.onnx"),
        ("lean", "model.onnx"),
        ("slower", "layout-slower.onnx"),
    ]
    slow, lean, slower = (entry["median_us"] for entry in layout["candidates"])
    assert lean < slow < slower
    assert manifest.latency["median_us"] == lean
    assert manifest.latency["threads"] == 2
    assert manifest.verified
    old = tunable.manifest.to_json()
    changed = {k for k, v in manifest.to_json().items() if v != old[k]}
    assert changed == {"layout", "latency", "files"}
    assert machine.host()["cpu"] in run(inspect_command, tunable.path).stdout


def test_tuning_again_changes_figures_only(tunable):
    assert run(bench_command, tunable.path, "--tune", *BRIEF).code == 0
    before = contents(tunable.path)
    ran = run(bench_command, tunable.path, "--tune", *BRIEF)
    assert "lean is the model, as before" in ran.stdout
    after = contents(tunable.path)
    assert {n for n in after if after[n] != before[n]} <= {"manifest.json"}


def test_json_tells_before_and_after(tunable):
    told = run(bench_command, tunable.path, "--tune", *BRIEF, "--json").json
    assert told["choice"] == {"before": "slow", "after": "lean"}
    assert told["verified"]
    assert told["host"] == machine.host()
    names = [entry["name"] for entry in told["candidates"]]
    assert names == ["lean", "slow", "slower"], "the fastest first"
    lean, slow, slower = told["candidates"]
    assert lean["recorded"] == {"median_us": 70.5, "p90_us": 90.5}
    assert lean["here"]["median_us"] < slow["here"]["median_us"]
    assert lean["relative_to_before"]["p90"] < 1 < slower["relative_to_before"]["p10"]
    assert lean["parity"]["verdict"] == "pass"
    assert (slow["parity"], slower["parity"]) == (None, None), "nobody asked them"


def test_table_tells_before_and_after(tunable):
    lines = run(bench_command, tunable.path, "--tune", *BRIEF).stdout.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["lean", "slow", "slower"]
    assert all("70.5" in line for line in lines[1:4])
    assert [line.split()[-1] for line in lines[1:4]] == ["pass", "needed", "needed"]
    assert f"recorded on a machine far away; here {machine.host()['cpu']}" in lines[4]


def test_fastest_that_lost_parity_is_passed_over(tunable):
    models = {name: tunable.files[f"layout-{name}.onnx"] for name in ("lean", "slower")}
    models |= {"slow": tunable.files["model.onnx"], "guess": guessing(models["lean"])}
    write_candidates(tunable.path, models, choice="slow")
    ran = run(bench_command, tunable.path, "--tune", *BRIEF)
    assert ran.code == 0
    assert [line.split()[-1] for line in ran.stdout.splitlines()[1:3]] == ["fail", "pass"]
    assert "guess lost parity here" in ran.stdout
    assert "lean is the model now" in ran.stdout
    after = load_bundle(tunable.path)
    assert after.files["model.onnx"] == models["lean"]
    assert after.files["layout-guess.onnx"] == models["guess"], "another device may judge it"
    assert run(verify_command, tunable.path).code == 0


def test_nothing_changes_where_no_candidate_keeps_parity(tunable):
    guess = guessing(tunable.files["layout-lean.onnx"])
    write_candidates(tunable.path, {"a": guess, "b": slowed(guess, 100)}, choice="b")
    before = contents(tunable.path)
    ran = run(bench_command, tunable.path, "--tune", *BRIEF)
    assert ran.code == 3
    assert "PARITY LOST by every candidate, nothing was changed" in ran.stdout
    assert contents(tunable.path) == before
    quiet = run(bench_command, tunable.path, "--tune", *BRIEF, "-q")
    assert (quiet.code, quiet.stdout) == (3, "")
    assert "PARITY LOST" in quiet.stderr
    told = run(bench_command, tunable.path, "--tune", *BRIEF, "--json")
    assert told.code == 3
    assert told.json["choice"] == {"before": "b", "after": None}
    assert not told.json["verified"]


def test_what_was_waived_stays_unverified(tiny_exports, tmp_path):
    path = shutil.copytree(tiny_exports["float32"], tmp_path / "bundle")
    manifest = json.loads((path / "manifest.json").read_text())
    waived = {**manifest, "waived": ["real data"], "verified": False}
    (path / "manifest.json").write_text(json.dumps(waived))
    write_candidates(path, {"only": (path / "model.onnx").read_bytes()}, choice="only")
    assert run(bench_command, path, "--tune", *BRIEF).code == 0
    manifest = load_bundle(path).manifest
    assert (manifest.verified, manifest.waived) == (False, ("real data",))


def test_int8_brings_the_coverage_of_the_choice(tiny_exports, tmp_path):
    path = shutil.copytree(tiny_exports["int8"], tmp_path / "bundle")
    model = (path / "model.onnx").read_bytes()
    counted = load_bundle(path).manifest.quantization["coverage"]
    coverage = {"slow": counted, "lean": {**counted, "integer_convolutions": 1}}
    write_candidates(path, {"slow": slowed(model, 400), "lean": model}, "slow", coverage)
    assert run(bench_command, path, "--tune", *BRIEF).code == 0
    manifest = load_bundle(path).manifest
    assert manifest.layout["choice"] == "lean"
    assert manifest.quantization["coverage"] == coverage["lean"]
    assert {c["name"]: c["coverage"] for c in manifest.layout["candidates"]} == coverage


def test_crash_while_writing_leaves_the_old_bundle(tunable, monkeypatch):
    before, written = contents(tunable.path), files._write_synced

    def crash(path, content):
        written(path, content)
        if path.name == "layout-slow.onnx":
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "_write_synced", crash)
    assert run(bench_command, tunable.path, "--tune", *BRIEF).code == 130
    assert contents(tunable.path) == before
    assert [path.name for path in tunable.path.parent.iterdir()] == ["bundle"]


def test_tuning_needs_neither_torch_nor_onnx(tunable):
    ran = run_without_torch("bench", tunable.path, "--tune", *BRIEF)
    assert ran.code == 0, ran.stderr
    assert "lean is the model now" in ran.stdout
