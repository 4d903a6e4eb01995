"""Interrupted runs: where they go on, and where they must not."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from tcn_export.data import Dataset, Windows
from tcn_export.errors import CheckpointError, OutputError, UsageError
from tcn_export.progress import Silent
from tcn_export.training import run
from tcn_export.training.configure import NetworkOptions
from tcn_export.training.fit import FitOptions
from training.waves import FAST, fit, slow_and_fast, waves


@pytest.fixture(scope="module")
def dataset():
    return slow_and_fast()


class Interrupted(Silent):
    """Presses Ctrl-C when so many epochs are done."""

    def __init__(self, epochs):
        self.left = epochs

    def stage(self, *_):

        def advance(units=1, /):
            self.left -= units
            if self.left == 0:
                raise KeyboardInterrupt

        return nullcontext(advance)


@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_resumed_run_ends_where_an_uninterrupted_one_does(dataset, tmp_path, validation):
    network = NetworkOptions(widths=(8,), levels=2, dropout=0.3)
    options = FitOptions(epochs=4, batch=16, seed=1)
    whole = fit(dataset, tmp_path / "whole.pt", network, options, validation)
    path = tmp_path / "parts.pt"
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        fit(dataset, path, network, options, validation, Interrupted(2))
    assert not path.exists()
    assert (tmp_path / "parts.pt.run" / "last.ckpt").is_file()
    resumed = FitOptions(epochs=4, batch=16, seed=1, resume=True)
    fit(dataset, path, network, resumed, validation)
    one, other = (torch.load(p, weights_only=True)["state_dict"] for p in (whole.path, path))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    assert not (tmp_path / "parts.pt.run").exists()


def test_nothing_to_resume_is_an_error(dataset, tmp_path):
    with pytest.raises(UsageError, match="no interrupted run to resume"):
        fit(dataset, tmp_path / "m.pt", options=FitOptions(resume=True))


def test_state_is_that_of_the_last_epoch_not_of_the_best(tmp_path):
    noise = np.random.default_rng(0)
    x = noise.standard_normal((80, 2, 16)).astype(np.float32)
    nothing_to_learn = Dataset("noise", Windows(x, noise.integers(0, 2, 80)), None, ("a", "b"))
    options = FitOptions(epochs=60, batch=16, patience=30, learning_rate=3e-2)
    with pytest.raises(KeyboardInterrupt):
        fit(nothing_to_learn, tmp_path / "m.pt", options=options, progress=Interrupted(20))
    best, last = (
        torch.load(tmp_path / "m.pt.run" / f"{name}.ckpt", weights_only=True)["epoch"]
        for name in ("best", "last")
    )
    assert best < last == 18  # epochs from 0; the 20th was interrupted before it was saved


@pytest.fixture
def stopped(dataset, tmp_path):
    """Where a run was interrupted in its second epoch."""
    with pytest.raises(KeyboardInterrupt):
        fit(dataset, tmp_path / "m.pt", progress=Interrupted(2))
    return tmp_path / "m.pt"


GO_ON = replace(FAST, resume=True)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"network": NetworkOptions(widths=(12,), levels=2)}, "config was"),
        ({"network": NetworkOptions(arch="resnet1d", widths=(8, 8))}, "architecture was tcn"),
        ({"options": replace(GO_ON, epochs=9)}, "options was .*'epochs': 3"),
        ({"options": replace(GO_ON, seed=9)}, "options was .*'seed': 0"),
        ({"validation": 0.0}, r"validation was 0\.25, now 0\.0"),
    ],
)
def test_only_the_run_that_was_interrupted_goes_on(changes, what, dataset, stopped):
    with pytest.raises(UsageError, match=what):
        fit(dataset, stopped, **{"options": GO_ON, **changes})
    fit(dataset, stopped, options=GO_ON)  # its state is still there


def test_run_on_other_windows_does_not_go_on(dataset, stopped):
    other = replace(dataset, train=waves(seed=9))
    with pytest.raises(UsageError, match="data sha256 was"):
        fit(other, stopped, options=GO_ON)


def test_moved_run_does_not_go_on(dataset, stopped, tmp_path):
    (tmp_path / "m.pt.run").rename(tmp_path / "other.pt.run")
    with pytest.raises(UsageError, match="folder was"):
        fit(dataset, tmp_path / "other.pt", options=GO_ON)


def test_run_whose_checkpoint_cannot_be_written_is_kept(dataset, tmp_path, monkeypatch):
    def full(path, _):
        raise OutputError(f"{path} cannot be written")

    with monkeypatch.context() as patch:
        patch.setattr(run, "save_checkpoint", full)
        with pytest.raises(OutputError):
            fit(dataset, tmp_path / "m.pt")
    fit(dataset, tmp_path / "m.pt", options=GO_ON)
    assert not (tmp_path / "m.pt.run").exists()


def test_damaged_state_of_a_run_is_an_error(dataset, stopped):
    state = stopped.with_name("m.pt.run") / "last.ckpt"
    state.write_bytes(state.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="was cut short"):
        fit(dataset, stopped, options=GO_ON)


def test_fresh_run_drops_what_an_interrupted_one_left(dataset, stopped, tmp_path):
    fit(dataset, stopped)
    assert stopped.read_bytes() == fit(dataset, tmp_path / "other.pt").path.read_bytes()
