"""Peak memory and seconds of calibration, ours beside ONNX Runtime's calibrators.

    python tools/benchmark_calibration.py MODEL DATA [--windows N ...] [--method METHOD ...]

MODEL is a checkpoint of tcn-train, DATA an .npz file with ``x_train``. Each figure is that of
a process of its own, which loads the graph and N windows, calibrates, and does nothing else;
ours keeps no cache. Both run the same graph, the one that ``--target onnx`` calibrates, and
watch the same values. ONNX Runtime's processes may take `--limit-gib` of address space and
`--limit-seconds`; where they need more, the table says so.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tcn_export.data import Windows
from tcn_export.graph import Graph, Signature, TensorSpec
from tcn_export.npz import load_dataset
from tcn_export.peak_memory import peak_bytes
from tcn_export.quantize.dialects import METHODS, ORT_X86_VNNI

MIB = 2**20
MOST_RATIO = 1.3
"""Peak memory of the most windows, in multiples of that of the fewest."""
LIBRARYS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
BATCH = 32
"""Windows that ONNX Runtime's calibrators are given at once."""


def main() -> None:
    """Print the table; exit with 1 where our memory grows with the windows."""
    if sys.argv[1:2] == ["--child"]:
        answer(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--windows", type=int, nargs="+", default=[500, 5_000, 50_000])
    parser.add_argument("--method", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--limit-gib", type=float, default=8.0)
    parser.add_argument("--limit-seconds", type=float, default=600.0)
    args = parser.parse_args()
    print(
        "| method | calibrator |"
        + "".join(f" {n:,} windows |" for n in args.windows)
        + "\n|---|---|"
        + "---|" * len(args.windows),
        flush=True,
    )
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        graph, files = prepare(args.model, args.data, args.windows, Path(folder))
        limits = args.limit_gib, args.limit_seconds
        for method in args.method:
            peaks = row(method, "ours", graph, files, None)
            if all(peaks):
                ratios.append(peaks[-1] / peaks[0])
            if method in LIBRARYS:
                row(method, "ONNX Runtime's", graph, files, limits)
    worst = max(ratios)
    print(
        f"\nours: {args.windows[-1]:,} windows take {worst:.2f} times the memory of "
        f"{args.windows[0]:,} at most (limit {MOST_RATIO})"
    )
    if worst > MOST_RATIO:
        raise SystemExit(1)


def prepare(
    model: Path, data: Path, counts: list[int], folder: Path
) -> tuple[Path, dict[int, Path]]:
    """Write the graph that is calibrated, and a file for each number of windows."""
    import onnx_ir as ir

    from tcn_export.capture import capture
    from tcn_export.rewrite.base import run, run_plan
    from tcn_export.rewrite.last_step import LastStep
    from tcn_export.rewrite.plans import PLANS
    from tcn_export.source.checkpoint import load_source

    source = load_source(model)
    captured = run_plan(PLANS["onnx"], capture(source, source.length, 20))
    axes = {spec.name: spec.time_axis for spec in captured.signature.inputs}
    path = folder / "float32.onnx"
    ir.save(run(LastStep(axes), captured).model, path)
    windows = load_dataset(data).calibration
    files = {count: folder / f"{count}.npy" for count in counts}
    for count, file in files.items():
        if len(windows) < count:
            raise SystemExit(f"{data} has {len(windows)} training windows, not {count}.")
        np.save(file, Windows(windows.x).spread(count).x)
    return path, files


def row(
    method: str,
    calibrator: str,
    graph: Path,
    files: dict[int, Path],
    limits: tuple[float, float] | None,
) -> list[float]:
    """Measure and print one row; MiB for each number of windows, 0 where it did not end."""
    cells, peaks = [], []
    for file in files.values():
        peak, text = measure(method, graph, file, limits)
        peaks.append(peak)
        cells.append(text)
    print(f"| {method} | {calibrator} | " + " | ".join(cells) + " |", flush=True)
    return peaks


def measure(
    method: str, graph: Path, windows: Path, limits: tuple[float, float] | None
) -> tuple[float, str]:
    """Calibrate in a process of its own: its peak in MiB and the text of the cell."""
    gib, seconds = limits or (None, None)
    request = json.dumps([method, str(graph), str(windows), gib])
    command = [sys.executable, __file__, "--child", request]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return 0.0, f"not ready after {seconds:g} s"
    if done.returncode == 0:
        found = json.loads(done.stdout)
        peak = found["bytes"] / MIB
        return peak, f"{peak:,.0f} MiB, {found['seconds']:.1f} s"
    if gib is not None and is_out_of_memory(done):
        return 0.0, f"more than {gib:g} GiB"
    raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stderr}")


def is_out_of_memory(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a process ended because it got no more memory, or was killed for it."""
    words = ("MemoryError", "bad_alloc", "bad allocation", "Failed to allocate memory")
    return done.returncode == -9 or any(word in done.stderr for word in words)


def answer(request: list[Any]) -> None:
    """The child: calibrate as told, print bytes and seconds."""
    method, path, file, gib = request
    calibrate = ours
    if gib is not None:
        resource.setrlimit(resource.RLIMIT_AS, (int(gib * 2**30),) * 2)
        calibrate = the_librarys
    windows = np.load(file)
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):  # the library prints what it does
        calibrate(method, path, windows)
    print(json.dumps({"bytes": peak_bytes(), "seconds": time.perf_counter() - start}))


def ours(method: Any, path: str, windows: np.ndarray) -> None:
    """Calibrate with `tcn_export.quantize.calibration`."""
    import onnx_ir as ir

    from tcn_export.progress import Silent
    from tcn_export.quantize.calibration import calibrate

    model = ir.load(path)
    name = model.graph.inputs[0].name
    assert name is not None
    signature = Signature((TensorSpec(name, "float32", ("batch", *windows.shape[1:]), 2),), ())
    calibrate(Graph(model, signature), windows, method, ORT_X86_VNNI, Silent())


def the_librarys(method: str, path: str, windows: np.ndarray) -> None:
    """Calibrate with ONNX Runtime's calibrator of the same name, as it comes."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        create_calibrator,
    )

    # The histogram calibrators stack what they saw, so that all batches must be of one size.
    size = BATCH if method == "minmax" else math.gcd(len(windows), BATCH)

    class Batches(CalibrationDataReader):  # type: ignore[misc]  # the library ships no types
        """The windows, some at a time."""

        def __init__(self, name: str) -> None:
            self._feeds = self._batches(name)

        def _batches(self, name: str) -> Iterator[dict[str, np.ndarray]]:
            for start in range(0, len(windows), size):
                yield {name: windows[start : start + size]}

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    calibrator = create_calibrator(
        path,
        list(ORT_X86_VNNI.operators),
        augmented_model_path=str(Path(path).with_suffix(".augmented.onnx")),
        calibrate_method=CalibrationMethod[LIBRARYS[method]],
        extra_options={"symmetric": False},
    )
    calibrator.collect_data(Batches(calibrator.model.graph.input[0].name))
    calibrator.compute_data()


if __name__ == "__main__":
    main()
