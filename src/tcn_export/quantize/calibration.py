"""Ranges of every activation, measured on training windows with ONNX Runtime's calibrators."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from onnxruntime.quantization.calibrate import TensorsData

from tcn_export.graph import Graph
from tcn_export.progress import Advance, Progress
from tcn_export.quantize.dialects import Dialect, Method
from tcn_export.rewrite.handed_on import carried

BATCH_WINDOWS = 32

_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}


@dataclass(frozen=True, slots=True)
class Ranges:
    """What calibration found: ONNX Runtime's table of ranges, and how it was made."""

    table: Any
    method: Method
    windows: int


def calibrate(
    graph: Graph,
    windows: NDArray[np.float32],
    method: Method,
    dialect: Dialect,
    progress: Progress,
) -> Ranges:
    """Run ``windows`` (windows, channels, length) through the float graph and note the ranges.

    Args:
        graph: The float32 graph with one input.
        windows: Training windows, never test windows.
        method: ``minmax`` covers everything seen; ``percentile`` leaves out the outermost
            0.001 %; ``entropy`` chooses by Kullback-Leibler divergence.
        dialect: Names the operators whose values are quantised.
        progress: Told of every window.
    """
    name = graph.signature.inputs[0].name
    # The histogram calibrators stack what they saw, so that all batches must be of one size.
    size = BATCH_WINDOWS if method == "minmax" else math.gcd(len(windows), BATCH_WINDOWS)
    with tempfile.TemporaryDirectory(prefix="tcn-export-") as folder:
        path = Path(folder) / "float32.onnx"
        ir.save(graph.model, path)
        calibrator = create_calibrator(
            path,
            list(dialect.operators),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=_METHODS[method],
            # The percentile calibrator is symmetric unless told otherwise, which gives away
            # half of the integers behind a ReLU.
            extra_options={"symmetric": False},
        )
        with (
            progress.stage(f"Calibrating ({method})", len(windows)) as advance,
            # The histogram calibrators print to stdout, where the result belongs.
            contextlib.redirect_stdout(io.StringIO()),
        ):
            calibrator.collect_data(_Batches(name, windows, size, advance))
            table = calibrator.compute_data()
    return Ranges(table, method, len(windows))


def carry(ranges: Ranges, graph: Graph) -> Ranges:
    """Ranges of one graph for an equal one of another layout; see `rewrite.handed_on`."""
    known = carried(dict(ranges.table.items()), graph.model)
    return replace(ranges, table=TensorsData(ranges.table.calibration_method, known))


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # the library ships no types
    """Feeds windows to a calibrator in batches."""

    def __init__(
        self, name: str, windows: NDArray[np.float32], size: int, advance: Advance
    ) -> None:
        self._feeds = self._batches(name, windows, size, advance)

    @staticmethod
    def _batches(
        name: str, windows: NDArray[np.float32], size: int, advance: Advance
    ) -> Iterator[dict[str, NDArray[np.float32]]]:
        for start in range(0, len(windows), size):
            batch = windows[start : start + size]
            yield {name: batch}
            advance(len(batch))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next feed, or None after the last."""
        return next(self._feeds, None)
