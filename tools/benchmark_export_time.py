"""How long an export takes, beside a bare script that only calls torch.onnx.export.

    python tools/benchmark_export_time.py [--rounds 5] [MODEL]

MODEL is a checkpoint of tcn-train; without one an untrained TCN is written. Whole processes,
imports included, in turns; the ratio is taken between the medians of the same run. Also times
``tcn-export --help``, beside an interpreter that does nothing.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tcn_export.models import build, describe
from tcn_export.models.tcn import TCNConfig
from tcn_export.source.checkpoint import Checkpoint, save_checkpoint

MOST_RATIO = 3.0
MOST_HELP_SECONDS = 0.3

BARE = """
import sys
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, i, o, d):
        super().__init__()
        self.conv1 = nn.Conv1d(i, o, 3, dilation=d)
        self.conv2 = nn.Conv1d(o, o, 3, dilation=d)
        self.norm1, self.norm2 = nn.BatchNorm1d(o), nn.BatchNorm1d(o)
        self.skip = nn.Conv1d(i, o, 1) if i != o else None
        self.past = 2 * d

    def forward(self, x):
        pad = nn.functional.pad
        y = torch.relu(self.norm1(self.conv1(pad(x, (self.past, 0)))))
        y = torch.relu(self.norm2(self.conv2(pad(y, (self.past, 0)))))
        return torch.relu(y + (x if self.skip is None else self.skip(x)))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(*(Block(6 if i == 0 else 32, 32, 2**i) for i in range(5)))
        self.head = nn.Linear(32, 6)

    def forward(self, x):
        return self.head(self.blocks(x)[:, :, -1])

signal = torch.randn(2, 6, 128)
torch.onnx.export(Net().eval(), (signal,), sys.argv[1], dynamo=True, verbose=False)
"""


def main() -> None:
    """Time both in turns and print medians and ratio; exit with 1 beyond the limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    command = str(Path(sys.executable).with_name("tcn-export"))
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or untrained(Path(folder, "model.pt"))
        export = [command, str(model), "--target", "onnx", "--json", "--overwrite"]
        contestants = {
            "bare torch.onnx.export": [sys.executable, "-c", BARE, f"{folder}/bare.onnx"],
            "tcn-export --json": [*export, "--out", folder],
            "tcn-export --help": [command, "--help"],
            "python -c pass": [sys.executable, "-c", "pass"],
        }
        medians = race(contestants, args.rounds)
    ratio = medians["tcn-export --json"] / medians["bare torch.onnx.export"]
    print(f"tcn-export takes {ratio:.2f} of the bare export's time (limit {MOST_RATIO})")
    if ratio > MOST_RATIO or medians["tcn-export --help"] > MOST_HELP_SECONDS:
        raise SystemExit(1)


def untrained(path: Path) -> Path:
    """Write the checkpoint of a TCN of the bare script's shape."""
    config = TCNConfig(
        in_channels=6, outputs=6, widths=(32,) * 5, dilations=(1, 2, 4, 8, 16), convolutions=2
    )
    name, entries = describe(config)
    state = build(name, entries).state_dict()
    save_checkpoint(
        path,
        Checkpoint(
            architecture=name,
            config=entries,
            state_dict=state,
            channels=6,
            length=128,
            task="classification",
            classes=tuple("abcdef"),
        ),
    )
    return path


def race(contestants: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """Seconds of each command, median over ``rounds``, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, command in contestants.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, times in seconds.items():
        low, high = min(times), max(times)
        print(
            f"{name:24s} {medians[name]:6.2f} s   ({low:.2f} to {high:.2f}, {rounds} rounds)"
        )
    return medians


if __name__ == "__main__":
    main()
