"""Real signals from outside the package: skipped, and said so, where they are not there."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from support import run
from tcn_export.cli.export import main as export_command
from tcn_export.cli.train import main as train_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.npz import load_dataset
from tcn_export.targets.cuda_driver import ask_driver

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def hapt(shared_data, tmp_path):
    """Six activities of 30 people, int16 storage, groups by person."""
    with np.load(shared_data / "hapt" / "hapt.npz") as archive:
        arrays = {k: archive[k] for k in archive.files if not k.startswith(("exp", "start"))}
    for part in ("train", "test"):
        kept = np.flatnonzero(arrays[f"y_{part}"] < 6)[::2]
        for key in (f"x_{part}", f"y_{part}", f"subject_{part}"):
            arrays[key] = arrays[key][kept]
    arrays["class_names"] = arrays["class_names"][:6]
    np.savez(tmp_path / "hapt.npz", **arrays)
    return tmp_path / "hapt.npz"


def test_human_activities_from_int16_to_a_verified_int8_bundle(hapt, tmp_path):
    model = tmp_path / "hapt.pt"
    shape = [
        "--widths",
        16,
        "--levels",
        3,
        "--kernel",
        5,
        "--convolutions",
        1,
        "--head",
        "mean",
    ]
    trained = run(train_command, hapt, *shape, "--epochs", 3, "--out", model, "--json")
    assert trained.code == 0
    assert trained.json["accuracy"] > 0.8
    options = ["--target", "onnx", "--data", hapt, "--out", tmp_path, "--json"]
    float32 = run(export_command, model, *options)
    assert float32.code == 0
    assert float32.json["sample_rate_hz"] == 50
    int8 = run(export_command, model, *options, "--precision", "int8", "--max-drop", 2)
    assert int8.code == 0, int8.json["parity"]
    coverage = int8.json["quantization"]["coverage"]
    assert coverage["integer_convolutions"] == coverage["convolutions"] == 4
    assert run(verify_command, tmp_path / "hapt-onnx-int8", "--data", hapt).code == 0
    if ask_driver().devices:
        return  # what follows is for machines without; those with one have test_gpu
    options[1] = "trt"
    for precision in ("float32", "float16", "int8"):
        kit = run(export_command, model, *options, "--precision", precision, "--max-drop", 2)
        assert kit.code == 4
        assert kit.json["parity"]["verdict"] == "pass", kit.json["parity"]
        if find_spec("tensorrt_rtx") is not None:
            assert set(kit.json["builder"]["convolutions"].values()) == {precision}


def test_groups_of_a_real_file_are_its_people(hapt):
    dataset = load_dataset(hapt)
    assert len(np.unique(dataset.train.group)) == 21
    assert (
        np.abs(dataset.train.x[:, 0].mean()) > 0.5
    )  # the phone hangs: gravity on one axis, in g


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "score", "limit"),
    [("hapt-tcn", "accuracy", 0.925), ("hapt-resnet1d", "accuracy", 0.935)],
)
def test_benchmark_reaches_its_goal(shared_data, tmp_path, name, score, limit):
    script = ROOT / "tools" / "benchmark_real_data.py"
    arguments = ["--data", shared_data, "--work", tmp_path, name]
    subprocess.run([sys.executable, script, *arguments], check=True)
    trained = json.loads((tmp_path / f"{name}-0.json").read_text())
    assert trained[score] >= limit
    assert trained["parameters"] <= 100_000
    for precision in ("float32", "int8"):
        exported = json.loads((tmp_path / f"{name}-0-{precision}.json").read_text())
        assert exported["verified"] is True
