"""How often a value of a graph was where, counted batch by batch in constant memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 2048
"""As many as TensorRT's calibrator has: eight to a step of 8 bits over the whole range."""

_AT_ONCE = 1 << 16
"""Numbers that are put into bins at a time: they stay in the processor's cache."""

Edges = NDArray[np.float64]
Range = tuple[float, float]
"""Lower and upper limit of what is represented, in the units of the value."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts in bins of equal width between two limits that have zero between them.

    Attributes:
        low: Lower limit, 0 or less.
        high: Upper limit, 0 or more.
        counts: How many numbers lay in each bin, (`BINS`,); the last one has both its edges.
        zeros: How many were exactly 0; ``counts`` leaves them out. A ReLU gives little else,
            and every quantiser represents them exactly.
    """

    low: float
    high: float
    counts: NDArray[np.int64]
    zeros: int = 0

    @classmethod
    def empty(cls, low: float, high: float) -> Histogram:
        """Nothing counted yet, between the limits that will be met and zero."""
        return cls(min(low, 0.0), max(high, 0.0), np.zeros(BINS, np.int64))

    @property
    def edges(self) -> Edges:
        """The limits of the bins, in rising order, (`BINS` + 1,)."""
        return np.linspace(self.low, self.high, BINS + 1)

    @property
    def largest(self) -> float:
        """The larger absolute limit."""
        return max(-self.low, self.high)

    @property
    def zero_bin(self) -> int:
        """The bin in which zero lies."""
        return min(int(np.searchsorted(self.edges, 0.0, side="right")) - 1, BINS - 1)

    def add(self, values: NDArray[Any]) -> Histogram:
        """The histogram with the numbers of one more batch, an array of any shape.

        What lies beyond the limits goes into the outermost bins.
        """
        flat = values.reshape(-1)
        counts, zeros = self.counts.copy(), 0
        per_unit = _per_unit(self.low, self.high)
        for start in range(0, flat.size, _AT_ONCE):
            place = flat[start : start + _AT_ONCE].astype(np.float64)
            zeros += place.size - int(np.count_nonzero(place))
            place -= self.low
            place *= per_unit
            np.clip(place, 0, BINS - 1, out=place)
            counts += np.bincount(place.astype(np.intp), minlength=BINS)
        # Zeros went into a bin like all the others: cheaper than to leave each of them out.
        counts[min(int((0.0 - self.low) * per_unit), BINS - 1)] -= zeros
        return replace(self, counts=counts, zeros=self.zeros + zeros)

    def folded(self) -> NDArray[np.float64]:
        """Counts of the absolute values, in `BINS` bins from 0 to the larger limit.

        Numbers are taken to lie evenly within their bin.
        """
        below = np.concatenate([[0.0], np.cumsum(self.counts)])
        wanted = np.linspace(0, self.largest, BINS + 1)
        positive = np.interp(wanted, self.edges, below)
        negative = np.interp(-wanted, self.edges, below)
        counts: NDArray[np.float64] = np.diff(positive) - np.diff(negative)
        return np.maximum(counts, 0.0)


def _per_unit(low: float, high: float) -> float:
    """Bins per unit of the signal; 0 where both limits are one, or all but one."""
    with np.errstate(over="ignore", divide="ignore"):
        bins = np.float64(BINS) / np.float64(high - low)
    return float(bins) if np.isfinite(bins) else 0.0
