from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from support import run
from tcn_export.cli.train import main as train_command
from tcn_export.data import Dataset, Windows
from tcn_export.errors import ExportError, UsageError
from tcn_export.npz import load_dataset
from tcn_export.progress import Silent
from tcn_export.source.checkpoint import load_source
from tcn_export.training.configure import NetworkOptions
from tcn_export.training.fit import FitOptions, predict
from tcn_export.training.run import train

SMALL = NetworkOptions(widths=(8,), levels=2)
FAST = FitOptions(epochs=3, batch=16, patience=5)


def waves(windows=96, seed=0):
    """Two classes that differ in frequency, far from zero and in odd units."""
    rng = np.random.default_rng(seed)
    y = np.arange(windows) % 2
    t = np.arange(32)
    phase = rng.uniform(0, 6, (windows, 1, 1))
    x = np.sin(phase + t * (0.3 + 0.5 * y[:, None, None])) * [[[3.0]], [[100.0]]][0] + 50
    return Windows(np.concatenate([x, 2 * x], axis=1).astype(np.float32), y.astype(np.int64))


@pytest.fixture(scope="module")
def dataset():
    return Dataset("waves", waves(), waves(40, seed=1), ("slow", "fast"))


def fit(dataset, path, network=SMALL, options=FAST, validation=0.25, progress=None):
    return train(
        dataset, network, options, validation, path, True, progress or Silent(), lambda _: None
    )


def test_network_learns_and_says_how_well(dataset, tmp_path):
    result = fit(dataset, tmp_path / "m.pt", options=FitOptions(epochs=12, batch=16))
    assert result.scored_on == "test"
    assert result.score.accuracy > 0.9
    source = load_source(result.path)
    output = predict(source.module, dataset.test.x)
    assert (output.argmax(1) == dataset.test.y).mean() == result.score.accuracy
    assert source.training["accuracy"] == result.score.accuracy
    assert source.classes == ("slow", "fast")


def test_input_normalisation_is_part_of_the_network(dataset, tmp_path):
    source = load_source(fit(dataset, tmp_path / "m.pt").path)
    np.testing.assert_allclose(source.center, [50, 100], rtol=0.05)
    assert (source.spread > 1).all()


def test_same_seed_gives_the_same_bytes_and_another_seed_others(dataset, tmp_path):
    one, same, other = (
        fit(dataset, tmp_path / f"{i}.pt", options=FitOptions(epochs=2, batch=16, seed=seed))
        for i, seed in enumerate((4, 4, 5))
    )
    assert one.path.read_bytes() == same.path.read_bytes()
    assert one.path.read_bytes() != other.path.read_bytes()


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


def test_divergence_is_an_error_and_writes_nothing(dataset, tmp_path):
    network = NetworkOptions(widths=(8,), levels=2, norm="none")
    wild = FitOptions(epochs=3, batch=16, learning_rate=1e30)
    with pytest.raises(ExportError, match="the training diverged in epoch 1"):
        fit(dataset, tmp_path / "m.pt", network, wild)
    assert not (tmp_path / "m.pt").exists()


def test_class_weights_help_the_rare_class(tmp_path):
    rng = np.random.default_rng(0)
    y = (np.arange(600) % 15 == 0).astype(np.int64)
    noise = rng.standard_normal((600, 1, 8))
    dataset = Dataset(
        "rare",
        Windows((noise + 0.5 * y[:, None, None]).astype(np.float32), y),
        None,
        ("common", "rare"),
    )

    def sensitivity(how):
        options = FitOptions(epochs=4, batch=32, class_weights=how)
        result = fit(dataset, tmp_path / f"{how}.pt", options=options, validation=0.0)
        assert result.scored_on == "training"
        return result.score.classes[1].sensitivity

    assert sensitivity("none") < sensitivity("sqrt") < sensitivity("balanced")


def test_regression_answers_in_the_units_of_its_targets(tmp_path):
    windows = waves(200)
    targets = np.stack([windows.x.mean((1, 2)), windows.x[:, 0, -1]], axis=1) * 7 + 1000
    dataset = Dataset("r", Windows(windows.x, targets.astype(np.float32)), None)
    options = FitOptions(epochs=25, batch=16)
    result = fit(dataset, tmp_path / "m.pt", options=options, validation=0.0)
    assert result.score < 0.3 * targets.var(axis=0).mean()
    source = load_source(result.path)
    assert (source.task, source.classes) == ("regression", ())
    assert source.signature.outputs[0].shape == ("batch", 2)


def test_head_for_every_step_learns_labels_per_step(tmp_path):
    windows = waves(64)
    labels = np.repeat(windows.y[:, None], 32, axis=1)
    dataset = Dataset("steps", Windows(windows.x, labels), None, ("slow", "fast"))
    network = NetworkOptions(widths=(8,), levels=3, head="every")
    result = fit(dataset, tmp_path / "m.pt", network, FitOptions(epochs=10, batch=16))
    assert result.score.accuracy > 0.7
    assert sum(c.support for c in result.score.classes) == 16 * 32


def test_command_trains_a_set_of_the_archive_and_saves_its_windows(tmp_path):
    options = ["--epochs", 2, "--widths", 4, "--levels", 2, "--out", tmp_path / "m.pt"]
    saved = tmp_path / "windows.npz"
    ran = run(train_command, "GunPoint", *options, "--save-data", saved, "--json")
    assert ran.code == 0, ran.stderr
    assert ran.json["epochs"] == 2
    assert len(ran.json["classes"]) == 2
    assert load_dataset(saved).test.x.shape == (150, 1, 150)
    again = run(train_command, "GunPoint", *options)
    assert again.code == 1
    assert "already exists" in again.stderr
    table = run(train_command, saved, *options, "--overwrite", "-v")
    assert "macro-F1" in table.stdout
    assert "epoch 1:" in table.stderr
    assert "tcn-export" in table.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arch", "resnet1d", "--head", "last"], "resnet1d has no option --head"),
        (["--arch", "resnet-wang", "--kernel", "3"], "resnet-wang has no option --kernel"),
        (["--arch", "resnett"], "Did you mean 'resnet1d'?"),
        (["--widths", "8,x"], "'x' is not a valid integer"),
        (
            ["--widths", "8,8", "--dilations", "1"],
            "`widths` has 2 blocks and `dilations` has 1",
        ),
        (["--horizon", "5"], "needs both --length (steps seen) and --horizon"),
        (["--head", "every"], "needs one per step"),
    ],
)
def test_wrong_options_are_told(options, message, tmp_path):
    ran = run(train_command, "GunPoint", *options, "--out", tmp_path / "m.pt")
    assert ran.code in (1, 2)
    assert message in ran.stderr
