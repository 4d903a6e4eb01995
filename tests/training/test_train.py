from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from torch.nn import functional

from support import run
from tcn_export.cli.train import main as train_command
from tcn_export.data import Dataset, Windows
from tcn_export.errors import DataError, ExportError, OutputError
from tcn_export.npz import load_dataset
from tcn_export.source.checkpoint import load_source
from tcn_export.training.configure import NetworkOptions
from tcn_export.training.datasets import split_validation
from tcn_export.training.fit import FitOptions, predict
from training.waves import FAST, fit, slow_and_fast, waves


@pytest.fixture(scope="module")
def dataset():
    return slow_and_fast()


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


def test_validation_windows_are_neither_learnt_nor_normalised_by(tmp_path):
    windows = waves(96)
    windows.x[48:] += 1000  # two recordings that lie far apart
    group = np.arange(96) // 48
    dataset = Dataset("two", replace(windows, group=group), None, ("slow", "fast"))
    source = load_source(fit(dataset, tmp_path / "m.pt", validation=0.5).path)
    learn, check = split_validation(dataset.train, 0.5, FAST.seed)
    np.testing.assert_allclose(source.center, learn.x.mean((0, 2)), rtol=1e-5)
    assert abs(source.center[0] - check.x[:, 0].mean()) > 900
    assert source.training["scored_on"] == "validation"
    assert sum(c["support"] for c in source.training["classes"]) == len(check)


def test_best_epoch_is_kept_and_patience_ends_the_run(tmp_path):
    noise = np.random.default_rng(0)
    windows = Windows(
        noise.standard_normal((80, 2, 16)).astype(np.float32), noise.integers(0, 2, 80)
    )
    dataset = Dataset("noise", windows, None, ("a", "b"))  # nothing to learn but by heart
    options = FitOptions(epochs=60, batch=16, patience=3, learning_rate=3e-2)
    network = NetworkOptions(widths=(16,), levels=2, dropout=0.0)
    result = fit(dataset, tmp_path / "m.pt", network, options)
    assert result.epochs == result.best_epoch + options.patience < options.epochs
    source = load_source(result.path)
    _, check = split_validation(windows, 0.25, options.seed)
    loss = functional.cross_entropy(
        torch.from_numpy(predict(source.module, check.x)), torch.from_numpy(check.y)
    )
    assert float(loss) == pytest.approx(source.training["best_loss"], rel=1e-4)


@pytest.mark.parametrize("shape", [(40, 5), (40,)])
def test_test_labels_of_another_shape_are_refused_before_training(shape, tmp_path):
    windows = waves()
    targets = np.zeros((96, 2), np.float32)
    test = Windows(waves(40).x, np.zeros(shape, np.float32))
    dataset = Dataset("r", Windows(windows.x, targets), test)
    with pytest.raises(DataError, match="they must be equal"):
        fit(dataset, tmp_path / "m.pt")


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_windows_are_saved_over_nothing_that_is_the_users(overwrite, tmp_path):
    data, windows = tmp_path / "data.npz", waves()
    np.savez(data, x_train=windows.x, y_train=windows.y, mine=np.arange(3))
    before = data.read_bytes()
    out = ["--out", tmp_path / "m.pt", "--epochs", 1]
    ran = run(train_command, data, *out, "--save-data", data, *overwrite)
    assert ran.code == 2
    assert "is the data itself" in ran.stderr
    assert data.read_bytes() == before
    (tmp_path / "kept.npz").write_text("mine")
    if not overwrite:
        ran = run(train_command, data, *out, "--save-data", tmp_path / "kept.npz")
        assert ran.code == 1
        assert "already exists" in ran.stderr
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".pt"] == []


def test_divergence_is_an_error_and_writes_nothing(dataset, tmp_path):
    network = NetworkOptions(widths=(8,), levels=2, norm="none")
    wild = FitOptions(epochs=3, batch=16, learning_rate=1e30)
    with pytest.raises(ExportError, match="the training diverged in epoch 1"):
        fit(dataset, tmp_path / "m.pt", network, wild)
    assert not (tmp_path / "m.pt").exists()
    with pytest.raises(ExportError, match="the training diverged"):
        fit(dataset, tmp_path / "m.pt", options=replace(FAST, learning_rate=float("inf")))
    assert not (tmp_path / "m.pt").exists()


def test_blocks_are_as_many_as_dilations(dataset, tmp_path):
    network = NetworkOptions(widths=(4,), dilations=(1, 7))
    source = load_source(fit(dataset, tmp_path / "m.pt", network).path)
    assert (source.config["widths"], source.config["dilations"]) == ([4, 4], [1, 7])


def test_full_disk_is_an_error(dataset, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lightning.Trainer, "save_checkpoint", full)
    with pytest.raises(OutputError, match="No space left on device"):
        fit(dataset, tmp_path / "m.pt")


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
        (["--widths", "4,8,16", "--levels", "2"], "names 3 blocks and --levels 2"),
        (["--learning-rate", "nan"], "nan is not a finite number"),
        (["--weight-decay", "inf"], "inf is not a finite number"),
        (["--validation", "nan"], "nan is not a finite number"),
    ],
)
def test_wrong_options_are_told(options, message, tmp_path):
    ran = run(train_command, "GunPoint", *options, "--out", tmp_path / "m.pt")
    assert ran.code in (1, 2)
    assert message in ran.stderr


@pytest.mark.slow
def test_several_devices_train_one_network_and_write_one_file(tmp_path):
    command = Path(sys.executable).with_name("tcn-train")
    options = "--widths 8 --levels 2 --epochs 1 --batch 8 --validation 0 --devices 2"
    paths = ["--out", tmp_path / "m.pt", "--save-data", tmp_path / "d.npz"]
    done = subprocess.run(
        [command, "BasicMotions", *options.split(), *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"m.pt", "d.npz"}
