"""How much accuracy was lost, and how much may have been lost given how few windows there are.

The bound on a paired difference of proportions is MOVER, the method of variance estimates
recovery (Zou and Donner 2008, Statistics in Medicine 27:1693-1702; for paired proportions
Tang, Li and Tang 2010, Statistics in Medicine 29:46-62), over one-sided Clopper-Pearson limits
of the two discordant shares. With no changed answer among n windows it is the exact bound,
1 - 0.05^(1/n).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcn_export.errors import DataError

ALPHA = 0.05
_Z = 1.6448536269514722
"""95 % quantile of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Loss:
    """How much a score fell from the reference to the artifact, in points (hundredths).

    Attributes:
        lost: The fall that was seen.
        upper: One-sided upper 95 % bound of the fall.
        reference: Score of the reference, 0 to 1.
        actual: Score of the artifact, 0 to 1.
        windows: On how many windows.
        note: What changed, for the report.
    """

    lost: float
    upper: float
    reference: float
    actual: float
    windows: int
    note: str


def accuracy_loss(
    truth: NDArray[np.integer], reference: NDArray[np.integer], actual: NDArray[np.integer]
) -> Loss:
    """Accuracy lost on the same windows; answers per window, or per step of each window.

    Steps of one window are not independent: per-step answers count as shares of as many trials
    as there are windows, which makes the bound wider.
    """
    was_right, is_right = reference == truth, actual == truth
    spoiled, mended = was_right & ~is_right, ~was_right & is_right
    windows = len(truth)
    upper = paired_upper_bound(
        math.ceil(spoiled.mean() * windows - 1e-9),
        math.floor(mended.mean() * windows + 1e-9),
        windows,
    )
    return Loss(
        lost=100 * float(was_right.mean() - is_right.mean()),
        upper=100 * upper,
        reference=float(was_right.mean()),
        actual=float(is_right.mean()),
        windows=windows,
        note=f"{int(spoiled.sum())} right answers lost, {int(mended.sum())} gained, "
        f"{int((reference != actual).sum())} changed",
    )


def relative_rms_loss(
    targets: NDArray[Any], reference: NDArray[np.float64], actual: NDArray[np.float64]
) -> Loss:
    """Relative root-mean-square error gained, from the squared errors of each window.

    Relative to the targets' own deviation, so that 1 is as good as always answering their
    mean. The bound is that of a paired mean difference (normal approximation).

    Raises:
        DataError: The targets never change.
    """
    variance = float(np.var(targets.astype(np.float64)))
    if variance == 0:
        raise DataError(
            f"all targets of the {len(targets)} windows are equal, so no error can be "
            "measured against their deviation. Give windows whose targets differ."
        )
    difference = actual - reference
    windows = len(difference)
    margin = (
        _Z * float(np.std(difference, ddof=1)) / math.sqrt(windows)
        if windows > 1
        else math.inf
    )
    before = math.sqrt(reference.mean() / variance)

    def relative(mean_difference: float) -> float:
        return math.sqrt(max(float(reference.mean()) + mean_difference, 0.0) / variance)

    after = relative(float(difference.mean()))
    return Loss(
        lost=100 * (after - before),
        upper=100 * (relative(float(difference.mean()) + margin) - before),
        reference=before,
        actual=after,
        windows=windows,
        note=f"relative RMS error {before:.4f} before, {after:.4f} after",
    )


def paired_upper_bound(spoiled: int, mended: int, windows: int) -> float:
    """One-sided upper 95 % bound of (spoiled - mended) / windows in the population."""
    p, q = spoiled / windows, mended / windows
    above = clopper_pearson_upper(spoiled, windows) - p
    below = q - (1 - clopper_pearson_upper(windows - mended, windows))
    # The two shares come from one multinomial, so they are negatively correlated.
    product = p * (1 - p) * q * (1 - q)
    correlation = -p * q / math.sqrt(product) if product > 0 else 0.0
    spread = above**2 + below**2 - 2 * correlation * above * below
    return min(p - q + math.sqrt(max(spread, 0.0)), 1.0)


def clopper_pearson_upper(successes: int, trials: int, alpha: float = ALPHA) -> float:
    """Exact one-sided upper bound of a proportion (Clopper and Pearson 1934).

    The p at which ``successes`` or fewer of ``trials`` have the probability ``alpha``.

    >>> round(clopper_pearson_upper(0, 40), 4)  # 1 - 0.05 ** (1 / 40)
    0.0722
    """
    if successes >= trials:
        return 1.0
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    k = np.arange(successes + 1)
    log_choose = log_factorial[trials] - log_factorial[k] - log_factorial[trials - k]
    low, high = successes / trials, 1.0
    for _ in range(50):  # bisection, to 15 digits
        p = (low + high) / 2
        # log P(X <= successes), from logarithms: the terms themselves underflow
        terms = log_choose + k * math.log(p) + (trials - k) * math.log1p(-p)
        top = float(terms.max())
        if top + math.log(float(np.exp(terms - top).sum())) > math.log(alpha):
            low = p
        else:
            high = p
    return high
