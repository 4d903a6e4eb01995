"""The range of a value with the smallest squared error of 8 bits, rounding and clipping."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcn_export.quantize.histogram import Histogram, Range

_STEPS = 255
"""Between the smallest and the largest integer of 8 bits."""
_SYMMETRIC_STEPS = 254
"""From -127 to 127: a symmetric quantiser leaves -128 unused."""

_RATIO = 0.65
_COARSE = np.arange(13.0)
"""The search tries shares of the whole range in these powers of the ratio, to 1/176 ..."""
_FINE = np.arange(-4.0, 5.0)
_FINER = (0.25, 0.0625, 0.02)
"""... and then these around the best one, three times, in smaller and smaller powers."""
_AT_ONCE = 16

Floats = NDArray[np.float64]


def mse_range(histogram: Histogram, symmetric: bool) -> Range:
    """The range with the smallest expected squared error, by search from coarse to fine.

    Source: Nagel et al. 2021, "A White Paper on Neural Network Quantization", section 3.1,
    range setting by mean squared error. Never worse than the whole range.

    Args:
        histogram: Of one value.
        symmetric: As far below zero as above it.
    """
    low, high = histogram.low, histogram.high
    if symmetric:
        low, high = -histogram.largest, histogram.largest
    if low == high:
        return low, high
    best, shares = (low, high), (1.0, 1.0)
    least = float(expected_squared_error(histogram, low, high, symmetric)[0])
    for scale, powers in ((1.0, _COARSE), *((scale, _FINE) for scale in _FINER)):
        steps = _RATIO ** (scale * powers)
        below, above = (np.unique(np.minimum(share * steps, 1.0)) for share in shares)
        if symmetric:
            below = above
        elif low == 0 or high == 0:
            below, above = (
                below[-1:] if low == 0 else below,
                above[-1:] if high == 0 else above,
            )
        if not symmetric:
            below, above = (side.ravel() for side in np.meshgrid(below, above))
        errors = expected_squared_error(histogram, below * low, above * high, symmetric)
        place = int(np.argmin(errors))
        if errors[place] < least:
            least = float(errors[place])
            shares = float(below[place]), float(above[place])
            best = shares[0] * low, shares[1] * high
    return best


def expected_squared_error(
    histogram: Histogram, low: Floats | float, high: Floats | float, symmetric: bool
) -> Floats:
    """Squared error of all numbers of a histogram, each bin's lying evenly within it.

    Not sampled but integrated: the error of clipping as in Banner et al. 2019, "Post training
    4-bit quantization of convolutional networks", section 3; that of rounding without their
    assumption that steps are small beside what is counted.

    Args:
        histogram: Of one value; its zeros have no error.
        low: Lower limits of the ranges that are asked about, 0 or less, (ranges,).
        high: Upper limits, 0 or more, (ranges,).
        symmetric: The quantiser has zero in its middle.

    Returns:
        The sum of squared errors, in squared units of the value, (ranges,).
    """
    lows, highs = np.atleast_1d(low), np.atleast_1d(high)
    step = (highs - lows) / (_SYMMETRIC_STEPS if symmetric else _STEPS)
    # What the integers reach: a whole number of steps on either side of zero.
    first = np.rint(lows / step) * step
    last = first + (highs - lows)
    edges = histogram.edges
    density = histogram.counts / (edges[1] - edges[0])
    parts = []
    for start in range(0, len(step), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        error = _antiderivative(edges, step[some, None], first[some, None], last[some, None])
        parts.append(np.diff(error, axis=1) @ density)
    return np.concatenate(parts)


def _antiderivative(x: Floats, step: Floats, first: Floats, last: Floats) -> Floats:
    """Integral of the squared error from 0 to ``x``."""
    steps = np.clip(x, first, last) / step
    nearest = np.rint(steps)
    rounding = _cube(step) * (nearest / 12 + _cube(steps - nearest) / 3)
    clipping = (_cube(np.maximum(x - last, 0)) - _cube(np.maximum(first - x, 0))) / 3
    return np.asarray(rounding + clipping)


def _cube(x: Floats) -> Floats:
    return x * x * x  # twenty times faster than numpy's power
