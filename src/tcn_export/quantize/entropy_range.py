"""The range of a value that keeps most of its distribution, by Kullback-Leibler divergence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcn_export.quantize.histogram import Histogram, Range

_LEVELS = 256
_LEVELS_ABOVE_ZERO = 128
"""Integers of 8 bits, and those for the absolute values where zero is in the middle."""
_STRIDE = 8
"""Bins between the ranges that are tried: one step of 8 bits over the whole range."""
_SMOOTHED = 1e-4

Floats = NDArray[np.float64]


def entropy_range(histogram: Histogram, symmetric: bool) -> Range:
    """The range whose quantised distribution tells the least apart from the clipped one.

    Source: Migacz 2017, "8-bit Inference with TensorRT" (GTC S7310), for absolute values, as
    ONNX Runtime does it too. Where zero need not be in the middle, the upper limit is sought
    first and the lower one then, each with all levels. Zeros are left out, as in NVIDIA's
    pytorch-quantization: they are exact in any range, and behind a ReLU their peak would hide
    everything else.

    Args:
        histogram: Of one value.
        symmetric: As far below zero as above it.
    """
    if symmetric:
        edges = np.linspace(0, histogram.largest, len(histogram.counts) + 1)
        limit = float(edges[_upper_end(histogram.folded(), 0, _LEVELS_ABOVE_ZERO)])
        return -limit, limit
    counts, edges = histogram.counts.astype(np.float64), histogram.edges
    zero, size = histogram.zero_bin, len(counts)
    end = _upper_end(counts, zero, _LEVELS) if histogram.high > 0 else size
    start = 0
    if histogram.low < 0:
        # Mirrored; what lies above the upper limit is clipped there already.
        clipped = counts[:end].copy()
        clipped[-1] += counts[end:].sum()
        start = end - _upper_end(clipped[::-1], end - 1 - zero, _LEVELS)
    return min(float(edges[start]), 0.0), max(float(edges[end]), 0.0)


def _upper_end(counts: Floats, zero: int, levels: int) -> int:
    """The bin before which a range should end that begins with bin 0 and has zero in it."""
    fewest = max(levels, zero + 1)
    if not counts.any() or fewest >= len(counts):
        return len(counts)
    ends = range(len(counts), fewest - 1, -_STRIDE)
    return min(ends, key=lambda end: _divergence(counts, end, levels))


def _divergence(counts: Floats, end: int, levels: int) -> float:
    """Between the counts clipped at ``end``, and the same in so many levels of equal width."""
    inside = counts[:end]
    clipped = inside.copy()
    clipped[-1] += counts[end:].sum()
    occupied = clipped > 0
    first = -(-np.arange(levels) * end // levels)  # bin of each level, rounded up
    held = np.add.reduceat(inside, first)
    among = np.add.reduceat(occupied, first, dtype=np.int64)
    spread = np.repeat(held / np.maximum(among, 1), np.diff(first, append=end)) * occupied
    if not spread.any():
        return np.inf
    p, q = _smooth(clipped), _smooth(spread)
    return float(np.sum(p * np.log(p / q)))


def _smooth(counts: Floats) -> Floats:
    """A distribution without zeros: a little of everything is taken for them."""
    share = counts / counts.sum()
    empty = share == 0
    fraction = _SMOOTHED * np.count_nonzero(empty) / len(share)
    smoothed = share * (1 - fraction)
    smoothed[empty] = _SMOOTHED / len(share)
    return np.asarray(smoothed)
