"""What the windows with labels say of the reference and the artifact, in JSON types.

Told beside the verdict, of which the loss is a part at int8 only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tcn_export.data import Windows
from tcn_export.parity.golden import WindowAnswers
from tcn_export.parity.rows import Row, waive_undecided
from tcn_export.parity.statistics import AccuracyLoss, Loss
from tcn_export.parity.windows import Limits, window_loss
from tcn_export.scores import classification_scores, regression_scores


@dataclass(frozen=True, slots=True)
class Told:
    """``parity.scores`` and ``parity.loss`` of the manifest; None where nothing is known."""

    scores: dict[str, Any] | None = None
    loss: dict[str, Any] | None = None


def tell(
    windows: Windows,
    reference: WindowAnswers,
    actual: WindowAnswers,
    classes: tuple[str, ...],
    limits: Limits,
) -> Told:
    """Score both sides on the same windows, and say what lies between them.

    Args:
        windows: With or without labels.
        reference: What the eager model answered.
        actual: What the artifact answered.
        classes: Names of the classes; without any it is a regression.
        limits: The claim that the number of windows is told for.
    """
    if windows.y is None or not (
        _is_scored(reference, classes) and _is_scored(actual, classes)
    ):
        return Told()
    before, after = (_score(windows, answers, classes) for answers in (reference, actual))
    is_constant = reference.answers is None and np.ptp(windows.y) == 0
    loss = None if is_constant else window_loss(windows, reference, actual, limits.alpha)
    return Told(
        {"reference": before, "actual": after},
        None if loss is None else describe_loss(loss, limits.max_drop),
    )


def describe_loss(loss: Loss, max_drop: float) -> dict[str, Any]:
    """A loss in JSON types; None where a figure is unknown, unbounded or means nothing.

    ``fewest_windows`` are needed for any claim of ``max_drop``, ``needed_windows`` for one at
    the loss that was seen.
    """
    counted = loss if isinstance(loss, AccuracyLoss) else None
    return {
        "lost_points": loss.lost,
        "upper_points": loss.upper if math.isfinite(loss.upper) else None,
        "confidence": 1 - loss.alpha,
        "windows": loss.windows,
        "changed": counted and counted.changed,
        "spoiled": counted and counted.spoiled,
        "mended": counted and counted.mended,
        "needed_windows": loss.needed(max_drop),
        "fewest_windows": loss.fewest(max_drop),
        "method": loss.method,
    }


def allow_undecided(rows: Iterable[Row], told: Told) -> tuple[list[Row], tuple[str, ...]]:
    """Waive what so few windows cannot decide; the rows, and what goes under ``waived``."""
    rows = list(rows)
    if told.loss is None or not any(row.status == "undecided" for row in rows):
        return rows, ()
    what = "accuracy" if told.loss["changed"] is not None else "error"
    fewest = told.loss["fewest_windows"]
    needed = "no number is enough" if fewest is None else f"{fewest:,} needed"
    waived = f"the {what} bound ({told.loss['windows']:,} windows, {needed})"
    return waive_undecided(rows), (waived,)


def _is_scored(answers: WindowAnswers, classes: tuple[str, ...]) -> bool:
    """Whether there are answers, of these classes: a damaged file may answer anything."""
    if answers.answers is None:
        return answers.squared_error is not None
    return bool(((answers.answers >= 0) & (answers.answers < len(classes))).all())


def _score(
    windows: Windows, answers: WindowAnswers, classes: tuple[str, ...]
) -> dict[str, Any]:
    assert windows.y is not None
    if answers.answers is not None:
        return classification_scores(windows.y, answers.answers, classes).to_json()
    assert answers.squared_error is not None
    return regression_scores(
        windows.y, answers.squared_error, answers.absolute_error
    ).to_json()
