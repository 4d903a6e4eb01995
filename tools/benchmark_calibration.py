"""Peak memory and time of calibration, beside ONNX Runtime's own calibrators.

    python tools/benchmark_calibration.py [MODEL.pt] [--data NPZ] [--windows 500 5000 50000]

MODEL is a checkpoint of tcn-train; without one an untrained TCN for the data is taken. Every
row is a process of its own, whose memory is limited to 8 GiB of address space; ``base`` is one
that imports the same packages, loads data and model and calibrates nothing. What a method adds
to it is the figure that matters.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    create_calibrator,
)

from tcn_export.capture import capture
from tcn_export.graph import Graph
from tcn_export.models import build, describe
from tcn_export.models.tcn import TCNConfig
from tcn_export.npz import load_dataset
from tcn_export.peak_memory import peak_bytes
from tcn_export.progress import Silent
from tcn_export.quantize.calibration import calibrate
from tcn_export.quantize.dialects import METHODS, ORT_X86_VNNI
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.plans import ONNX
from tcn_export.source.checkpoint import Checkpoint, load_source, save_checkpoint

MOST_BYTES = 8 * 1024**3
MOST_SECONDS = 900
BATCH = 32
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
THEIRS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
ROWS = (
    ("base", "-"),
    *(("ours", method) for method in METHODS),
    *(("onnxruntime", method) for method in THEIRS),
)


class Reader(CalibrationDataReader):  # type: ignore[misc]  # the library ships no types
    """Feeds windows to the library's calibrator, in batches of one size."""

    def __init__(self, name: str, x: NDArray[np.float32]) -> None:
        whole = len(x) - len(x) % BATCH
        self._feeds: Iterator[dict[str, Any]] = iter(
            {name: x[start : start + BATCH]} for start in range(0, whole, BATCH)
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next feed, or None after the last."""
        return next(self._feeds, None)


def calibrate_theirs(graph: Graph, x: NDArray[np.float32], method: str) -> None:
    """As ONNX Runtime's quantize_static does it."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "float32.onnx"
        ir.save(graph.model, path)
        calibrator = create_calibrator(
            path,
            list(ORT_X86_VNNI.operators),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=THEIRS[method],
            extra_options={"symmetric": False},
        )
        calibrator.collect_data(Reader(graph.signature.inputs[0].name, x))
        calibrator.compute_data()


def child(model: Path, data: Path, windows: int, who: str, method: str) -> None:
    """One row: calibrate, and answer with bytes and seconds."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    source = load_source(model)
    graph = run_plan(ONNX, capture(source, source.length, ORT_X86_VNNI.newest_opset))
    x = load_dataset(data).calibration.spread(windows).x
    start = time.perf_counter()
    if who == "ours":
        calibrate(graph, x, method, ORT_X86_VNNI, Silent())  # type: ignore[arg-type]
    elif who == "onnxruntime":
        calibrate_theirs(graph, x, method)
    print(json.dumps([peak_bytes(), time.perf_counter() - start]))


def measure(model: Path, data: Path, windows: int, who: str, method: str) -> str:
    """A row's cell: MiB at the peak and seconds, or how it ended."""
    line = [sys.executable, __file__, str(model), "--data", str(data)]
    line += ["--child", who, method, "--windows", str(windows)]
    try:
        done = subprocess.run(
            line, capture_output=True, text=True, check=False, timeout=MOST_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"over {MOST_SECONDS} s"
    if done.returncode != 0:
        grave = ("MemoryError", "bad_alloc", "Failed to allocate", "cannot allocate")
        if any(sign in done.stderr for sign in grave):
            return f"out of {MOST_BYTES // 2**30} GiB"
        return f"ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    peak, seconds = json.loads(done.stdout.splitlines()[-1])
    return f"{peak / 2**20:,.0f} MiB, {seconds:.1f} s"


def untrained(path: Path, data: Path) -> Path:
    """The checkpoint of an untrained TCN for the windows of a file."""
    train = load_dataset(data).calibration
    _, channels, length = train.x.shape
    config = TCNConfig(
        in_channels=channels, outputs=5, widths=(32,) * 5, dilations=(1, 2, 4, 8, 16)
    )
    architecture, entries = describe(config)
    save_checkpoint(
        path,
        Checkpoint(
            architecture=architecture,
            config=entries,
            state_dict=build(architecture, entries).state_dict(),
            channels=channels,
            length=length,
            task="classification",
            classes=tuple("NSVFQ"),
            sample_rate_hz=180.0,
        ),
    )
    return path


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument(
        "--data", type=Path, default=SHARED / "mitbih_aami" / "mitbih_aami.npz"
    )
    parser.add_argument("--windows", nargs="+", type=int, default=[500, 5_000, 50_000])
    parser.add_argument("--child", nargs=2, metavar=("WHO", "METHOD"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.model, options.data, options.windows[0], *options.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or untrained(Path(folder) / "tcn.pt", options.data)
        print(
            "| calibration | " + " | ".join(f"{n:,} windows" for n in options.windows) + " |"
        )
        print("|---" * (1 + len(options.windows)) + "|")
        for who, method in ROWS:
            cells = [measure(model, options.data, n, who, method) for n in options.windows]
            print(f"| {who} {method} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
