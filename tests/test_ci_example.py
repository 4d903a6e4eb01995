"""What a CI job sees: a bundle is committed, and somebody changes one weight."""

from __future__ import annotations

import json
import shutil
import subprocess
from xml.etree import ElementTree as ET

import pytest

from bundles import change_one_weight, fit_hashes
from support import make_data, run
from tcn_export.cli.export import main as export_command
from tcn_export.cli.verify import main as verify_command

BUNDLE = "models/tiny-onnx-float32"


def git(folder, *arguments):
    identity = ["-c", "user.name=ci", "-c", "user.email=ci@localhost"]
    line = ["git", *identity, *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def repository(tiny_exports, tmp_path, monkeypatch):
    """A repository with what the command exported, in a job of GitHub."""
    folder = tmp_path / "repository"
    shutil.copytree(tiny_exports["float32"], folder / BUNDLE)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "The model")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("An earlier step.\n")
    return folder


def verify(*options):
    return run(
        verify_command, BUNDLE, "--junit", "out/j.xml", "--markdown", "out/m.md", *options
    )


def results(repository, tag):
    return list(ET.parse(repository / "out" / "j.xml").iter(tag))


def test_bundle_as_it_was_committed_passes(repository, tmp_path):
    ran = verify()
    assert (ran.code, "::" in ran.stdout + ran.stderr) == (0, False)
    assert not results(repository, "failure") + results(repository, "error")
    assert len(results(repository, "testcase")) > 10
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("An earlier step.\n### ✅ tiny-onnx-float32: Verified: ")
    assert (repository / "out" / "m.md").read_text() in summary
    assert git(repository, "status", "--porcelain") == "?? out/\n"


def test_changed_weight_is_seen_by_its_hash(repository):
    change_one_weight(repository / BUNDLE)
    assert git(repository, "status", "--porcelain") == f" M {BUNDLE}/model.onnx\n"
    ran = verify()
    assert ran.code == 1
    (error,) = results(repository, "error")
    assert error.get("type") == "BundleError"
    assert "is not the file that was exported" in error.get("message")
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("::")]
    assert line.startswith("::error title=tcn-verify tiny-onnx-float32::BundleError: ")
    assert "### ❌ tiny-onnx-float32" in (repository / "out" / "m.md").read_text()


def test_changed_weight_with_a_hash_that_fits_is_seen_by_its_answers(repository, tmp_path):
    change_one_weight(repository / BUNDLE)
    fit_hashes(repository / BUNDLE)
    ran = verify()
    assert ran.code == 3
    failures = results(repository, "failure")
    assert failures
    assert {failure.get("type") for failure in failures} == {"fail"}
    assert all("largest error" in failure.text for failure in failures)
    lines = [line for line in ran.stdout.splitlines() if line.startswith("::")]
    assert len(lines) == min(len(failures), 10)
    assert all(line.startswith("::error title=tcn-verify tiny-onnx-float32") for line in lines)
    page = (repository / "out" / "m.md").read_text()
    assert page.startswith("### ❌ tiny-onnx-float32: Parity is lost: ")
    assert page in (tmp_path / "summary.md").read_text()


def test_json_stays_one_value_while_github_is_told_on_stderr(repository):
    change_one_weight(repository / BUNDLE)
    assert verify("--json").json["error"]["kind"] == "BundleError"
    fit_hashes(repository / BUNDLE)
    ran = verify("--json")
    assert json.loads(ran.stdout)["verdict"] == "fail"
    assert ran.stderr.count("::error title=") >= 1


def test_nothing_is_annotated_outside_of_github(repository, tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    change_one_weight(repository / BUNDLE)
    ran = verify("-q")
    assert "::error" not in ran.stdout + ran.stderr
    assert (tmp_path / "summary.md").read_text() == "An earlier step.\n"


def test_export_tells_ci_too(repository, tiny_model, tmp_path):
    options = ["--target", "onnx", "--out", tmp_path / "more", "--junit", tmp_path / "j.xml"]
    assert run(export_command, tiny_model, *options).code == 0
    assert ET.parse(tmp_path / "j.xml").getroot().get("name") == "tcn-export"
    assert run(export_command, tiny_model, *options).code == 1
    (error,) = ET.parse(tmp_path / "j.xml").iter("error")
    assert error.get("type") == "OutputError"
    assert "already exists" in error.text
    ran = run(export_command, tmp_path / "no.pt", *options)
    assert (ran.code, "::error title=tcn-export no.pt::" in ran.stdout) == (1, True)


def test_too_few_windows_are_told_as_that(repository, tiny_model, tmp_path):
    data = make_data(tmp_path / "few.npz", tiny_model, 40)
    options = ["--target", "onnx", "--precision", "int8", "--data", data, "--max-drop", 1]
    files = ["--junit", "out/j.xml", "--markdown", "out/m.md", "--out", tmp_path / "more"]
    ran = run(export_command, tiny_model, *options, *files)
    assert ran.code == 3
    (failure,) = results(repository, "failure")
    assert failure.get("type") == "undecided"
    assert "40 windows cannot show a loss below 1 point" in failure.text
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("::")]
    assert line.startswith(
        "::warning title=tcn-export tiny-onnx-int8%3A windows/logits is not"
    )
    page = (repository / "out" / "m.md").read_text()
    assert page.startswith("### ⚠️ tiny-onnx-int8: Not decided: 1 of ")
    html = (tmp_path / "more" / "tiny-onnx-int8" / "report.html").read_text()
    assert "The data are too few to say whether it keeps its accuracy." in html


@pytest.mark.parametrize("option", ["--junit", "--markdown"])
def test_report_that_cannot_be_written_is_told_before_any_work(repository, option):
    (repository / "file").write_text("")
    ran = run(verify_command, BUNDLE, option, "file/j.xml", "--json")
    assert (ran.code, ran.json["error"]["kind"]) == (1, "OutputError")
    assert "Comparing" not in ran.stderr
