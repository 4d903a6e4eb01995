"""Bad input ends in one clear message, exit code 1 or 2, and leaves nothing half-written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from support import make_checkpoint, run
from tcn_export.cli.export import main as export_command
from tcn_export.cli.inspect import main as inspect_command
from tcn_export.cli.train import main as train_command
from tcn_export.cli.verify import main as verify_command


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def truncated(path, tmp_path):
    path.write_bytes(path.read_bytes()[:-100])


def random_bytes(path, tmp_path):
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def pickled_module(path, tmp_path):
    torch.save(nn.Linear(2, 2), path)


def bomb(path, tmp_path):
    torch.save({"format": Bomb(tmp_path / "ran")}, path)


def forge(change):
    def forged(path, tmp_path):
        entries = torch.load(path, weights_only=True)
        change(entries)
        torch.save(entries, path)

    return forged


CHECKPOINTS = {
    "truncated": (truncated, "cut short"),
    "random bytes": (random_bytes, "not a PyTorch checkpoint"),
    "pickled module": (pickled_module, "could run code"),
    "code": (bomb, "could run code"),
    "missing key": (forge(lambda e: e.pop("config")), "lacks the field `config`"),
    "missing weight": (forge(lambda e: e["state_dict"].popitem()), "1 missing"),
    "wrong channels": (
        forge(lambda e: e["input"].update(channels=5)),
        "is 5, but the network takes 3 channels",
    ),
    "NaN in weights": (
        forge(lambda e: e["state_dict"]["head.weight"].fill_(torch.nan)),
        "`head.weight` in",
    ),
}


def left(folder):
    """What an export may have left behind: files of any kind."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("kind", CHECKPOINTS)
@pytest.mark.parametrize("command", ["export", "inspect"])
def test_bad_checkpoint(kind, command, tmp_path):
    damage, message = CHECKPOINTS[kind]
    model, out = make_checkpoint(tmp_path / "model.pt"), tmp_path / "out"
    damage(model, tmp_path)
    out.mkdir()
    if command == "export":
        ran = run(export_command, model, "--target", "onnx", "--out", out)
    else:
        ran = run(inspect_command, model)
    assert ran.code == 1
    assert message in ran.stderr
    assert ran.stdout == ""
    assert left(out) == []
    assert not (tmp_path / "ran").exists()


X = np.zeros((6, 3, 24), np.float32)
Y = np.arange(6) % 4
BAD_DATA = {
    "NaN": ({"x": np.where(np.arange(24) == 5, np.nan, X), "y": Y}, "NaN"),
    "objects": ({"x": np.array([X, None], dtype=object)}, "Python objects"),
    "labels out of range": ({"x": X, "y": Y + 7}, "holds the label"),
    "negative labels": ({"x": X, "y": Y - 1}, "the label -1"),
    "empty": ({"x": X[:0], "y": Y[:0]}, "is empty"),
    "no windows": ({"signal": X}, "holds no windows"),
    "other channels": ({"x": X[:, :2], "y": Y}, "has 2 channels"),
    "other length": ({"x": X[:, :, :9], "y": Y}, "windows of 9 steps"),
    "other class names": (
        {"x": X, "y": Y, "class_names": np.array(list("abcd"))},
        "names its classes a, b, c, d, but the model was trained on class 0",
    ),
    "training windows only": ({"x_train": X, "y_train": Y}, "no test windows to judge on"),
    "one value everywhere": ({"x": 0 * X + 3, "y": Y}, "hold 3 and nothing else"),
    "no archive": (None, "is not a readable .npz archive"),
}


def write_data(path, arrays):
    if arrays is None:
        path.write_bytes(b"what is this")
    else:
        np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("kind", BAD_DATA)
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_bad_data_for_an_export(kind, precision, tiny_model, tmp_path):
    arrays, message = BAD_DATA[kind]
    data, out = write_data(tmp_path / "data.npz", arrays), tmp_path / "out"
    options = ["--target", "onnx", "--precision", precision, "--data", data, "--out", out]
    ran = run(export_command, tiny_model, *options)
    assert ran.code == 1
    assert message in ran.stderr
    assert not out.exists()


TRAINING = {
    k: BAD_DATA[k] for k in ("NaN", "objects", "negative labels", "empty", "no archive")
}


@pytest.mark.parametrize("kind", TRAINING)
def test_bad_data_for_training(kind, tmp_path):
    arrays, message = TRAINING[kind]
    data, out = write_data(tmp_path / "data.npz", arrays), tmp_path / "out" / "model.pt"
    ran = run(train_command, data, "--out", out)
    assert ran.code == 1
    assert message in ran.stderr
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "onxx"], "Did you mean 'onnx'?"),
        (["--target", "onnx", "--precision", "int4"], "Did you mean 'int8'?"),
        ([], "Missing option '--target'"),
        (["--target", "onnx", "--target", "trt"], "--target was given 2 times (onnx, trt)"),
        (["--target", "onnx", "--precision", "int8"], "give --data FILE.npz"),
        (["--target", "onnx", "--precision", "int8", "--data", "noise", "--opset", "21"],
         "at most 20"),
        (["--target", "onnx", "--length", "0"], "0 is not in the range x>=1"),
        (["--target", "onnx", "--length", "long"], "'long' is not a valid integer"),
        (["--target", "onnx", "--name", "a/b"], "must not contain a path"),
        (["--target", "onnx", "--max-drop", "-1"], "-1.0 is not in the range"),
        (["--target", "onnx", "--max-drop", "nan"], "nan is not a finite number"),
        (["--target", "onnx", "--max-drop", "inf"], "inf is not a finite number"),
        (["--target", "onnx", "--seed", "-1"], "-1 is not in the range"),
        (["--target", "onnx", "--name", "a" * 300], "cannot be that of a folder"),
        (["--target", "onnx", "--name", ""], "must not contain a path or be empty"),
    ],
)  # fmt: skip
def test_wrong_usage(options, message, tiny_model, tmp_path):
    ran = run(export_command, tiny_model, *options, "--out", tmp_path)
    assert ran.code == 2
    assert message in ran.stderr
    assert left(tmp_path) == []


def test_names_too_long_for_the_system_are_an_error(tmp_path):
    for command, arguments in (
        (export_command, [tmp_path / ("m" * 300), "--target", "onnx", "--name", "m"]),
        (inspect_command, [tmp_path / ("m" * 300)]),
        (verify_command, [tmp_path / ("b" * 300)]),
        (train_command, [tmp_path / ("d" * 300 + ".npz")]),
    ):
        ran = run(command, *arguments)
        assert ran.code == 1
        assert "File name too long" in ran.stderr


def test_lost_parity_is_told_even_when_quiet(tiny_model, tiny_data, tmp_path):
    options = ["--target", "onnx", "--precision", "int8", "--data", tiny_data]
    ran = run(
        export_command, tiny_model, *options, "--max-drop", 0.01, "--out", tmp_path, "-q"
    )
    assert (ran.code, ran.stdout) == (3, "")
    assert "PARITY LOST" in ran.stderr
    ran = run(verify_command, tmp_path / "tiny-onnx-int8", "-q")
    assert (ran.code, ran.stdout) == (3, "")
    assert "PARITY LOST" in ran.stderr


def test_error_is_json_too_where_json_was_asked_for(tmp_path):
    ran = run(export_command, tmp_path / "none.pt", "--target", "onnx", "--json")
    assert ran.code == 1
    assert ran.json["error"]["kind"] == "CheckpointError"
    assert ran.json["error"]["exit_code"] == 1


def test_damaged_bundle_is_refused_before_anything_runs(tiny_model, tmp_path):
    assert (
        run(export_command, tiny_model, "--target", "onnx", "--out", tmp_path, "-q").code == 0
    )
    bundle = tmp_path / "tiny-onnx-float32"
    raw = bytearray((bundle / "model.onnx").read_bytes())
    raw[200] ^= 1
    (bundle / "model.onnx").write_bytes(raw)
    for command in (verify_command, inspect_command):
        ran = run(command, bundle)
        assert ran.code == 1
        assert "is not the file that was exported" in ran.stderr
