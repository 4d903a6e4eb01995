"""README's commands and code run; its links and options exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tcn_export.cli.export import main as export_command
from tcn_export.cli.inspect import main as inspect_command
from tcn_export.cli.train import main as train_command
from tcn_export.cli.verify import main as verify_command

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.M | re.S)
COMMANDS = (train_command, export_command, verify_command, inspect_command)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which README's blocks run one after the other."""
    return tmp_path_factory.mktemp("readme")


@pytest.mark.xdist_group("readme")
@pytest.mark.parametrize(
    ("language", "block"), [b for b in BLOCKS if b[0] in ("bash", "python")]
)
def test_block_runs(language, block, folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = (
        ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
    )
    done = subprocess.run(
        [*program, block],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


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
    known |= {"--numprocesses", "--help"}
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
        "pyproject.toml", "README.md", "src", "tests", "exported", "tools", "Dockerfile",
    }  # fmt: skip
