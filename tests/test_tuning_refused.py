"""What ``tcn-bench --tune`` does not do, and that it says so and leaves everything alone."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from bundles import contents
from support import run
from tcn_export import tuning
from tcn_export.cli.bench import main as bench_command
from tcn_export.cli.verify import main as verify_command


def edit_layout(bundle, change):
    path = bundle.path / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest["layout"])
    path.write_text(json.dumps(manifest))


def test_files_that_the_bundle_does_not_list_are_not_lost(tunable):
    (tunable.path / "notes.txt").write_text("mine")
    before = contents(tunable.path)
    ran = run(bench_command, tunable.path, "--tune")
    assert ran.code == 1
    assert "holds notes.txt, which the bundle does not list" in ran.stderr
    assert contents(tunable.path) == before


def test_altered_candidate_is_noticed(tunable):
    with (tunable.path / "layout-lean.onnx").open("ab") as file:
        file.write(b"\0")
    ran = run(bench_command, tunable.path, "--tune")
    assert (ran.code, "is not the file that was exported" in ran.stderr) == (1, True)


@pytest.mark.parametrize(
    "change",
    [
        lambda layout: layout.update(choice="lean"),
        lambda layout: layout.update(choice="none"),
        lambda layout: layout.update(candidates=[]),
        lambda layout: layout["candidates"].append(layout["candidates"][0]),
        lambda layout: layout["candidates"][1].update(file="golden.npz"),
        lambda layout: layout["candidates"][1].update(name="other", file="layout-other.onnx"),
        lambda layout: layout["candidates"][1].update(name="slower"),
    ],
)
def test_candidates_that_the_bundle_does_not_hold_are_an_error(tunable, change):
    edit_layout(tunable, change)
    before = contents(tunable.path)
    ran = run(bench_command, tunable.path, "--tune")
    assert (ran.code, "which are not those that it holds" in ran.stderr) == (1, True)
    assert contents(tunable.path) == before


def test_names_that_lead_out_of_the_folder_are_never_written(tunable):
    outside = "/../../outside"

    def rename(layout):
        layout.update(choice=outside)
        layout["candidates"][0].update(name=outside)

    edit_layout(tunable, rename)
    ran = run(bench_command, tunable.path, "--tune")
    assert (ran.code, "which are not those that it holds" in ran.stderr) == (1, True)
    assert [path.name for path in tunable.path.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layout: layout.pop("choice"), "`manifest.layout.choice` is missing"),
        (lambda layout: layout.update(threads="1"), "layout.threads` is '1', expected an int"),
        (lambda layout: layout.update(measured_on={}), "measured_on.cpu` is missing"),
        (
            lambda layout: layout["candidates"][0].update(median_us="fast"),
            r"candidates[0].median_us` is 'fast', expected a finite number",
        ),
        (
            lambda layout: layout["candidates"][2].update(coverage={"convolutions": 3}),
            "candidates[2].coverage.integer_convolutions` is missing",
        ),
    ],
)
def test_layouts_of_another_form_are_named(tunable, change, message):
    edit_layout(tunable, change)
    ran = run(bench_command, tunable.path, "--tune")
    assert (ran.code, message in ran.stderr) == (1, True), ran.stderr


@pytest.mark.parametrize("entry", [None, "absent"])
def test_bundles_without_candidates_say_why(tiny_exports, tmp_path, entry):
    path = shutil.copytree(tiny_exports["float32"], tmp_path / "bundle")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest.pop("layout")
    if entry is None:
        manifest["layout"] = None
    (path / "manifest.json").write_text(json.dumps(manifest))
    ran = run(bench_command, path, "--tune")
    assert (ran.code, "so there is nothing to choose from" in ran.stderr) == (2, True)
    assert run(verify_command, path).code == 0


@pytest.mark.parametrize(
    "options",
    [["--batch", 2], ["--length", 24], ["--threads", 1, "--threads", 2], ["--against", "x"]],
)
def test_options_of_the_benchmark_do_not_go_with_tuning(tunable, options):
    assert run(bench_command, tunable.path, "--tune", *options).code == 2


def test_engines_are_not_tuned(tunable):
    path = tunable.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "target": "trt"}))
    ran = run(bench_command, tunable.path, "--tune")
    assert (ran.code, "builder measures by itself" in ran.stderr) == (2, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_bundle_that_cannot_be_replaced_is_told_before_the_race(tunable, monkeypatch):
    monkeypatch.setattr(tuning, "race_runners", lambda *_: pytest.fail("it raced"))
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others
        os.chmod(folder, 0o755)
        bundle = shutil.copytree(tunable.path, Path(folder) / "bundle")
        os.seteuid(65534)
        try:
            ran = run(bench_command, bundle, "--tune")
        finally:
            os.seteuid(0)
    assert (ran.code, "cannot be written" in ran.stderr) == (1, True), ran.stderr
