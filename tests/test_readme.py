"""README's commands and code run; its links and options exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tcn_export.cli.bench import main as bench_command
from tcn_export.cli.export import main as export_command
from tcn_export.cli.inspect import main as inspect_command
from tcn_export.cli.train import main as train_command
from tcn_export.cli.verify import main as verify_command

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.M | re.S)
COMMANDS = (train_command, export_command, verify_command, bench_command, inspect_command)


def test_blocks_run_one_after_the_other(tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    programs = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    for language, block in BLOCKS:
        if language not in programs:
            continue
        done = subprocess.run(
            [*programs[language], block],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


def test_there_are_blocks_to_run():
    assert [language for language, _ in BLOCKS].count("bash") >= 4
    assert "python" in [language for language, _ in BLOCKS]


def test_links_and_named_files_exist():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
    for name in re.findall(r"(?:tools|src|exported)/[\w./-]*\w", README):
        if not name.startswith(("exported/model", "exported/watch", "exported/NAME")):
            assert (ROOT / name).exists(), name


def test_named_options_exist():
    known = {opt for command in COMMANDS for p in command.params for opt in p.opts}
    known |= {"--numprocesses", "--help", "--stream"}  # the last one of build_engine.py
    known |= {"--build-arg", "--entrypoint", "--gpus", "--rm", "--tag", "--user", "--volume"}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", README)) <= known


def test_top_level_holds_what_it_should_and_nothing_else():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    visible = {name for name in top if not name.startswith(".")}
    assert visible == {
        "pyproject.toml", "README.md", "src", "tests", "exported", "tools", "docs",
        "Dockerfile",
    }  # fmt: skip
