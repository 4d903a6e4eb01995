"""Scores of a classifier or a forecaster on labelled windows, in plain numpy.

Used where a network is trained and where an artifact is judged, so that both speak of the same
figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Scores of one class, each between 0 and 1 (nan where the class never occurs)."""

    name: str
    precision: float
    sensitivity: float
    f1: float
    support: int

    def to_json(self) -> dict[str, Any]:
        """Name and figures, in JSON types: None where a figure is undefined."""
        figures = {k: getattr(self, k) for k in ("precision", "sensitivity", "f1")}
        defined = {k: None if math.isnan(v) else v for k, v in figures.items()}
        return {"name": self.name, **defined, "support": self.support}


@dataclass(frozen=True, slots=True)
class ClassificationScores:
    """Accuracy, macro-averaged F1 and the scores of every class."""

    accuracy: float
    macro_f1: float
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Windows (or steps) by true class (rows) and answered class (columns)."""

    def to_json(self) -> dict[str, Any]:
        """All figures, in JSON types."""
        return {
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "classes": [row.to_json() for row in self.classes],
            "confusion": [list(row) for row in self.confusion],
        }


@dataclass(frozen=True, slots=True)
class RegressionScores:
    """Errors in the units of the targets; ``r2`` is the share of their variance explained.

    ``mae`` is None where nobody kept absolute errors, ``r2`` where the targets never change.
    """

    rmse: float
    mae: float | None
    r2: float | None

    def to_json(self) -> dict[str, Any]:
        """All figures, in JSON types."""
        return {"rmse": self.rmse, "mae": self.mae, "r2": self.r2}


def confusion_matrix(
    truth: NDArray[np.integer], answer: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """Count windows by true class (rows) and answered class (columns): (classes, classes)."""
    cells = np.bincount(truth.ravel() * classes + answer.ravel(), minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def classification_scores(
    truth: NDArray[np.integer], answer: NDArray[np.integer], names: tuple[str, ...]
) -> ClassificationScores:
    """Score answers against labels; both hold class indices, in any equal shape.

    Macro-F1 averages over the classes that occur in ``truth`` or ``answer``: a class that the
    data never shows says nothing about the network.
    """
    table = confusion_matrix(truth, answer, len(names))
    hits = np.diag(table).astype(float)
    support, answered = table.sum(axis=1), table.sum(axis=0)
    with np.errstate(invalid="ignore"):
        precision, sensitivity = hits / answered, hits / support
        f1 = 2 * hits / (support + answered)
    rows = tuple(
        ClassScore(name, float(p), float(s), float(f), int(n))
        for name, p, s, f, n in zip(names, precision, sensitivity, f1, support, strict=True)
    )
    return ClassificationScores(
        float(hits.sum() / table.sum()),
        float(np.nanmean(f1)),
        rows,
        tuple(tuple(row) for row in table.tolist()),
    )


def regression_scores(
    truth: NDArray[Any],
    squared_error: NDArray[np.float64],
    absolute_error: NDArray[np.float64] | None,
) -> RegressionScores:
    """Score a regression from the mean errors of each window, both of shape (windows,)."""
    mean, variance = float(squared_error.mean()), float(np.var(truth.astype(np.float64)))
    return RegressionScores(
        rmse=math.sqrt(mean),
        mae=None if absolute_error is None else float(absolute_error.mean()),
        r2=1 - mean / variance if variance > 0 else None,
    )


def mean_squared_error(truth: NDArray[np.floating], answer: NDArray[np.floating]) -> float:
    """Mean over all values of the squared difference, in double precision."""
    return float(np.mean(np.square(answer.astype(np.float64) - truth.astype(np.float64))))
