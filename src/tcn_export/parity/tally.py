"""Sums and answers over the batches of many windows: what of the outputs is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcn_export.data import Windows
from tcn_export.parity import metrics
from tcn_export.parity.golden import WindowAnswers


@dataclass(frozen=True, slots=True)
class Comparison:
    """An artifact beside the oracle on the same windows.

    ``eager_error`` is that of eager float32, where it was run; ``rms`` is the root mean square
    of the oracle's outputs.
    """

    actual: WindowAnswers
    oracle: WindowAnswers
    sqnr_db: float
    error: float
    eager_error: float
    largest: float
    rms: float


class Tally:
    """Sums over the batches of one output, of the artifact beside the oracle."""

    def __init__(self, windows: Windows, is_classification: bool) -> None:
        self.ours = Answers(windows, is_classification)
        self._truth = Answers(windows, is_classification)
        self._signal = self._noise = self._error = self._eager = self._largest = 0.0
        self._values = 0

    def add(
        self, output: NDArray[Any], double: NDArray[Any], single: NDArray[Any] | None
    ) -> None:
        """Take the outputs of the next windows."""
        self._truth.add(double)
        self.ours.add(output, double.shape)
        if self.ours.fault is not None:
            return
        self._signal += metrics.energy(double)
        self._values += double.size
        self._noise += metrics.energy(output.astype(np.float64) - double)
        self._error = max(self._error, metrics.max_abs_error(output, double))
        self._largest = max(self._largest, metrics.largest(double))
        if single is not None:
            self._eager = max(self._eager, metrics.max_abs_error(single, double))

    def result(self) -> Comparison:
        """What was seen so far."""
        return Comparison(
            self.ours.result(),
            self._truth.result(),
            metrics.decibels(self._signal, self._noise),
            self._error,
            self._eager,
            self._largest,
            math.sqrt(self._signal / max(self._values, 1)),
        )


class Answers:
    """Collects answers batch by batch, beside the labels they belong to."""

    def __init__(self, windows: Windows, is_classification: bool) -> None:
        self._targets = windows.y
        self._is_classification = is_classification
        self._parts: list[NDArray[Any]] = []
        self._absolute: list[NDArray[np.float64]] = []
        self._seen = 0
        self.fault: str | None = None

    def add(self, output: NDArray[Any], shape: tuple[int, ...] | None = None) -> None:
        """Take the outputs of the next windows, unless their form is wrong."""
        if shape is not None and output.shape != shape:
            self.fault = f"shape {output.shape}, expected {shape}"
        elif not np.isfinite(output).all():
            self.fault = f"{int((~np.isfinite(output)).sum())} values are NaN or infinite"
        else:
            self._take(output)

    def _take(self, output: NDArray[Any]) -> None:
        if self._is_classification:
            self._parts.append(metrics.answers(output))
        elif self._targets is not None:
            targets = self._targets[self._seen : self._seen + len(output)].astype(np.float64)
            error = (output.astype(np.float64) - targets).reshape(len(output), -1)
            self._parts.append(np.square(error).mean(axis=1))
            self._absolute.append(np.abs(error).mean(axis=1))
        self._seen += len(output)

    def result(self) -> WindowAnswers:
        """All answers taken so far."""
        if self.fault is not None or not self._parts:
            return WindowAnswers(fault=self.fault)
        joined = np.concatenate(self._parts)
        if self._is_classification:
            return WindowAnswers(answers=joined)
        return WindowAnswers(
            squared_error=joined, absolute_error=np.concatenate(self._absolute)
        )
