"""How much a score fell, how much it may have fallen, and how many windows a claim needs.

`bounds` names the method for accuracy. The bound on a mean difference of squared errors is
that of the normal approximation with the first term for skewness (Hall 1983, Annals of
Statistics 11:569-576), as squares are skewed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tcn_export.errors import DataError
from tcn_export.parity.bounds import ALPHA, paired_upper_bound, quantile, windows_needed

FEWEST_ERRORS = 50
"""Fewer windows bound no regression: simulated on squares of normal numbers, among the most
skewed errors there are, the 95 % bound covers with 91 % from 30 windows, 93 % from 50."""
_MOST_COUNTED = 10**6
"""Beyond so many windows the normal approximation tells how many are needed."""


@dataclass(frozen=True, slots=True)
class Loss(ABC):
    """How much a score fell from the reference to the artifact, in points (hundredths).

    Attributes:
        lost: The fall that was seen.
        upper: One-sided upper bound of the fall, which holds with 1 - ``alpha``.
        reference: Score of the reference, 0 to 1.
        actual: Score of the artifact, 0 to 1.
        windows: On how many windows.
        note: What changed, for the report.
        alpha: How often the bound may be wrong.
    """

    method: ClassVar[str]
    lost: float
    upper: float
    reference: float
    actual: float
    windows: int
    note: str
    alpha: float

    @abstractmethod
    def fewest(self, max_drop: float) -> int | None:
        """With fewer windows no bound comes to ``max_drop`` points; None where none does."""

    @abstractmethod
    def needed(self, max_drop: float) -> int | None:
        """About how many windows such a loss needs for a bound of ``max_drop`` points.

        None where no number is enough: the loss that was seen is as large already.
        """


@dataclass(frozen=True, slots=True)
class AccuracyLoss(Loss):
    """Accuracy lost.

    ``spoiled``, ``mended`` and ``changed`` are the answers that became wrong, became right,
    and became others; per window, or per step. ``rates`` are the shares of the first two.
    """

    method = "MOVER over Clopper-Pearson limits, paired (Tang, Li and Tang 2010)"
    spoiled: int
    mended: int
    changed: int
    rates: tuple[float, float]

    def fewest(self, max_drop: float) -> int | None:
        """Those of `windows_needed`."""
        return windows_needed(max_drop, self.alpha)

    def needed(self, max_drop: float) -> int | None:
        """At the rates of change that were seen."""
        fewest = self.fewest(max_drop)
        if fewest is None or self.lost >= max_drop:
            return None
        lost, gained = self.rates

        def is_enough(windows: int) -> bool:
            counts = _counts(lost, gained, windows)
            return 100 * paired_upper_bound(*counts, windows, self.alpha) <= max_drop

        deviation = 100 * math.sqrt(lost + gained - (lost - gained) ** 2)
        approximate = (quantile(self.alpha) * deviation / (max_drop - self.lost)) ** 2
        return _smallest(is_enough, fewest) or math.ceil(approximate)


@dataclass(frozen=True, slots=True)
class ErrorLoss(Loss):
    """Relative root-mean-square error gained.

    ``needs`` tells how many windows bring the bound to so many points.
    """

    method = "normal approximation with a term for skewness, paired (Hall 1983)"
    needs: Callable[[float], int | None]

    def fewest(self, max_drop: float) -> int | None:  # noqa: ARG002 - the same for all claims
        """What the approximation takes."""
        return FEWEST_ERRORS

    def needed(self, max_drop: float) -> int | None:
        """With errors that scatter as those that were seen."""
        return None if self.lost >= max_drop else self.needs(max_drop)


def accuracy_loss(
    truth: NDArray[np.integer],
    reference: NDArray[np.integer],
    actual: NDArray[np.integer],
    alpha: float = ALPHA,
) -> AccuracyLoss:
    """Accuracy lost on the same windows; answers per window, or per step of each window.

    Steps of one window are not independent: per-step answers count as shares of as many trials
    as there are windows, which makes the bound wider.

    Args:
        truth: Class indices, (windows,) or (windows, length).
        reference: What the reference answered.
        actual: What the artifact answered.
        alpha: How often the bound may be wrong. Where several artifacts are judged on the same
            windows, and the best is taken, divide it by their number (Bonferroni).
    """
    was_right, is_right = reference == truth, actual == truth
    spoiled, mended = was_right & ~is_right, ~was_right & is_right
    windows, rates = len(truth), (float(spoiled.mean()), float(mended.mean()))
    counts = int(spoiled.sum()), int(mended.sum()), int((reference != actual).sum())
    return AccuracyLoss(
        lost=100 * float(was_right.mean() - is_right.mean()),
        upper=100 * paired_upper_bound(*_counts(*rates, windows), windows, alpha),
        reference=float(was_right.mean()),
        actual=float(is_right.mean()),
        windows=windows,
        note=f"{counts[0]} right answers lost, {counts[1]} gained, {counts[2]} changed",
        alpha=alpha,
        spoiled=counts[0],
        mended=counts[1],
        changed=counts[2],
        rates=rates,
    )


def relative_rms_loss(
    targets: NDArray[Any],
    reference: NDArray[np.float64],
    actual: NDArray[np.float64],
    alpha: float = ALPHA,
) -> ErrorLoss:
    """Relative root-mean-square error gained, from the squared errors of each window.

    Relative to the targets' own deviation, so that 1 is as good as always answering their
    mean. Fewer than `FEWEST_ERRORS` windows bound nothing.

    Raises:
        DataError: The targets never change.
    """
    variance = float(np.var(targets.astype(np.float64)))
    if variance == 0:
        raise DataError(
            f"all targets of the {len(targets)} windows are equal, so no error can be "
            "measured against their deviation. Give windows whose targets differ."
        )
    windows, mean = len(targets), float(reference.mean())
    before = math.sqrt(mean / variance)

    def relative(gained: float) -> float:
        return math.sqrt(max(mean + gained, 0.0) / variance)

    gained, widths = _mean_and_widths(actual - reference, alpha)
    margin = widths[0] / math.sqrt(windows) + widths[1] / windows
    after = relative(gained)

    def needs(max_drop: float) -> int | None:
        room = (before + max_drop / 100) ** 2 * variance - mean - gained
        return None if room <= 0 else _windows_for(room, *widths)

    return ErrorLoss(
        lost=100 * (after - before),
        upper=100 * (relative(gained + margin) - before)
        if windows >= FEWEST_ERRORS
        else math.inf,
        reference=before,
        actual=after,
        windows=windows,
        note=f"relative RMS error {before:.4f} before, {after:.4f} after",
        alpha=alpha,
        needs=needs,
    )


def _mean_and_widths(
    difference: NDArray[np.float64], alpha: float
) -> tuple[float, tuple[float, float]]:
    """A mean, and what of its upper bound shrinks with the root of n, and with n itself."""
    mean = float(difference.mean())
    deviation = float(np.std(difference, ddof=1)) if len(difference) > 1 else 0.0
    if deviation == 0:
        return mean, (0.0, 0.0)
    z = quantile(alpha)
    skewness = float(np.mean(((difference - mean) / deviation) ** 3))
    # Only what widens the bound: a long tail of gains is no reason for trust.
    return mean, (z * deviation, max(skewness, 0.0) * deviation * (1 + 2 * z**2) / 6)


def _windows_for(room: float, by_root: float, by_number: float) -> int:
    """The least n with by_root / sqrt(n) + by_number / n <= room, but `FEWEST_ERRORS`."""
    root = (by_root + math.sqrt(by_root**2 + 4 * room * by_number)) / (2 * room)
    return max(math.ceil(root**2), FEWEST_ERRORS)


def _counts(spoiled: float, mended: float, windows: int) -> tuple[int, int]:
    """Shares as whole windows, against the artifact where they are none."""
    return math.ceil(spoiled * windows - 1e-9), math.floor(mended * windows + 1e-9)


def _smallest(is_enough: Callable[[int], bool], fewest: int) -> int | None:
    """About the smallest number from ``fewest`` on; None beyond `_MOST_COUNTED`."""
    low, high = fewest - 1, fewest
    while not is_enough(high):
        if high >= _MOST_COUNTED:
            return None
        low, high = high, min(2 * high, _MOST_COUNTED)
    while high - low > 1:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle
    return high
