"""The steps of the composite action, run by the shell as GitHub's runner runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from bundles import change_one_weight, fit_hashes

ACTION = Path(__file__).resolve().parents[1] / "tools" / "github-action"
TOLD = yaml.safe_load((ACTION / "action.yml").read_text())
INSTALL, VERIFY = TOLD["runs"]["steps"]


def perform(step, folder, env, **inputs):
    """Run a step with inputs, defaults for the rest."""
    values = {name: str(entry.get("default", "")) for name, entry in TOLD["inputs"].items()}
    values |= inputs

    def fill(text):
        text = re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda m: values[m[1]], text)
        return text.replace("${{ github.action_path }}", str(ACTION))

    given = {name: fill(text) for name, text in step["env"].items()}
    return subprocess.run(
        [step["shell"], "-e", "-o", "pipefail", "-c", step["run"]],
        cwd=folder,
        env={**os.environ, "GITHUB_ACTION_PATH": str(ACTION), **env, **given},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def job(tmp_path, tiny_exports):
    """A checkout with two bundles, and what a runner sets."""
    program = "from tcn_export.cli.verify import main; main()"
    command = f'#!/bin/sh\nexec {sys.executable} -c "{program}" "$@"\n'
    (tmp_path / "tcn-verify").write_text(command)
    (tmp_path / "tcn-verify").chmod(0o755)
    checkout = tmp_path / "check out"
    for precision, path in tiny_exports.items():
        shutil.copytree(path, checkout / "models" / f"my {precision}")
    env = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "GITHUB_ACTIONS": "true",
    }
    return checkout, env


def outputs(env):
    lines = Path(env["GITHUB_OUTPUT"]).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_action_has_the_form_that_github_asks_for():
    assert {"name", "description", "inputs", "outputs", "runs"} == TOLD.keys()
    assert TOLD["runs"]["using"] == "composite"
    for step in TOLD["runs"]["steps"]:
        assert step["shell"] == "bash"
        # An input that is pasted into a script is a script of whoever gave it.
        assert "${{" not in step["run"]
        (script,) = re.findall(r"[\w-]+\.sh", step["run"])
        assert (ACTION / script).is_file()
    named = re.findall(r"inputs\.([\w-]+)", (ACTION / "action.yml").read_text())
    assert set(named) == TOLD["inputs"].keys()
    for entry in TOLD["outputs"].values():
        assert re.fullmatch(r"\$\{\{ steps\.verify\.outputs\.[\w-]+ \}\}", entry["value"])


def test_every_bundle_is_verified_and_reported(job):
    checkout, env = job
    done = perform(VERIFY, checkout, env, bundles="models/my float32\n\nmodels/*int8\n")
    assert done.returncode == 0, done.stderr
    told = outputs(env)
    assert told.keys() == TOLD["outputs"].keys()
    files = sorted((checkout / told["junit"]).glob("*.xml"))
    assert [file.name for file in files] == ["001-my float32.xml", "002-my int8.xml"]
    page = (checkout / told["markdown"]).read_text()
    assert page.index("### ✅ my float32") < page.index("### ✅ my int8")


def test_lost_parity_fails_the_step_after_all_bundles_ran(job):
    checkout, env = job
    change_one_weight(checkout / "models" / "my float32")
    fit_hashes(checkout / "models" / "my float32")
    done = perform(VERIFY, checkout, env, bundles="models/*", reports="out")
    assert done.returncode == 3
    assert outputs(env) == {"junit": "out", "markdown": "out/parity.md", "exit-code": "3"}
    assert "::error title=tcn-verify my float32" in done.stdout
    counts = {
        p.name: len(list(ET.parse(p).iter("failure")))
        for p in (checkout / "out").glob("*.xml")
    }
    assert counts["001-my float32.xml"] > 0
    assert counts["002-my int8.xml"] == 0


def test_data_are_handed_on(job, tiny_data):
    checkout, env = job
    done = perform(VERIFY, checkout, env, bundles="models/my int8", data=str(tiny_data))
    assert done.returncode == 0, done.stderr
    assert "accuracy_lost_upper95_points" in done.stdout


@pytest.mark.parametrize("bundles", ["", "\n  \n"])
def test_no_bundle_is_an_error(job, bundles):
    checkout, env = job
    done = perform(VERIFY, checkout, env, bundles=bundles)
    assert (done.returncode, "::error title=tcn-verify::no bundle" in done.stdout) == (2, True)


@pytest.mark.parametrize("bundle", ["nowhere", "$(touch hacked)", "; touch hacked", "--help"])
def test_names_are_names_and_nothing_else(job, bundle):
    checkout, env = job
    done = perform(VERIFY, checkout, env, bundles=bundle)
    assert done.returncode == 1
    assert not list(checkout.rglob("hacked"))


@pytest.mark.parametrize(
    ("inputs", "wanted"),
    [
        ({}, f"{ACTION}/../..[cpu]"),
        ({"version": "0.1.0", "extra": "gpu"}, "tcn-export[gpu]==0.1.0"),
    ],
)
def test_what_is_installed_is_the_checkout_or_a_version(tmp_path, inputs, wanted):
    (tmp_path / "python3").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "python3").chmod(0o755)
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = perform(INSTALL, tmp_path, env, **inputs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == wanted
    assert (ACTION / ".." / ".." / "pyproject.toml").is_file()
