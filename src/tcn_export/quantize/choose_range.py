"""Which range of a value 8 bits are spread over, chosen from its histogram.

Every range has zero in it, so that zero is represented exactly: it is what convolutions pad
with, and what a ReLU gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from tcn_export.quantize.entropy_range import entropy_range
from tcn_export.quantize.histogram import BINS, Histogram, Range
from tcn_export.quantize.mse_range import mse_range

LEFT_OUT = 1e-5
"""Share of the numbers that ``percentile`` leaves out, half of it on either side."""


def percentile_range(histogram: Histogram, symmetric: bool) -> Range:
    """Leave out the outermost `LEFT_OUT` of the numbers; right to a bin, outwards.

    Args:
        histogram: Of one value.
        symmetric: As far below zero as above it: the share is one of absolute values.
    """
    if symmetric:
        folded = histogram.folded()
        folded[0] += histogram.zeros
        limit = histogram.largest * (_place(folded, 1 - LEFT_OUT) + 1) / BINS
        return -limit, limit
    counts, edges = histogram.counts.astype(np.float64), histogram.edges
    counts[histogram.zero_bin] += histogram.zeros
    low = edges[_place(counts, LEFT_OUT / 2)]
    high = edges[_place(counts, 1 - LEFT_OUT / 2) + 1]
    return min(float(low), 0.0), max(float(high), 0.0)


CHOOSE: Mapping[str, Callable[[Histogram, bool], Range]] = {
    "percentile": percentile_range,
    "entropy": entropy_range,
    "mse": mse_range,
}
"""By name of the method: the range of a value, and whether zero is to be its middle."""


def _place(counts: NDArray[np.float64], share: float) -> int:
    """The bin up to which a share of all numbers lies."""
    below = np.cumsum(counts)
    return min(int(np.searchsorted(below, share * below[-1])), len(counts) - 1)
