"""Modules of the user's, written for one test and forgotten afterwards."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from networks import HEAD, NETWORK
from programs import Net, save


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module of the user's into the current folder; it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def written(code: str, name: str = "mine") -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(f"{HEAD}{NETWORK}{code}")
        return path

    yield written
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def program_bytes(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("original") / "own.pt2"
    return save(Net().eval(), path).read_bytes()


@pytest.fixture
def own(program_bytes, tmp_path, monkeypatch) -> Path:
    """An honest program in the current folder, to be forged."""
    monkeypatch.chdir(tmp_path)
    Path("own.pt2").write_bytes(program_bytes)
    return Path("own.pt2")
