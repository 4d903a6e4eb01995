"""A stream is not judged on signals to which its network answers otherwise than to others."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch

from support import run
from tcn_export import load_bundle
from tcn_export.cli.export import main as export_command


class LateByACrop(torch.nn.Module):
    """Answers at every step to what came three steps before it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.answer = torch.nn.Conv1d(2, 3, 1)

    def forward(self, x):
        return self.answer(torch.nn.functional.pad(x[:, :, :-3], (3, 0)))


def test_signals_shorter_than_a_crop_are_not_judged(tmp_path, monkeypatch):
    module = ModuleType("late_by_a_crop")
    module.make = LateByACrop
    monkeypatch.setitem(sys.modules, "late_by_a_crop", module)
    done = run(
        export_command, "--factory", "late_by_a_crop:make", "--input-shape", "2,24",
        "--target", "onnx", "--mode", "stream", "--out", tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    feeds = {
        row["feed"]
        for row in load_bundle(tmp_path / "make-onnx-float32-stream1").manifest.parity["rows"]
    }
    assert "length_12" in feeds
    assert not {"length_1", "length_2"} & feeds


class LastThree(torch.nn.Module):
    """Answers at the last three steps."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.answer = torch.nn.Conv1d(2, 3, 1)

    def forward(self, x):
        return self.answer(x)[:, :, -3:]


@pytest.mark.parametrize("hop", [1, 2])
def test_signals_shorter_than_what_is_read_at_their_end_are_not_judged(
    hop, tmp_path, monkeypatch
):
    module = ModuleType("last_three")
    module.make = LastThree
    monkeypatch.setitem(sys.modules, "last_three", module)
    done = run(
        export_command, "--factory", "last_three:make", "--input-shape", "2,24",
        "--target", "onnx", "--mode", "stream", "--hop", hop, "--out", tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.stderr
