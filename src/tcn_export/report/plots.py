"""Curves as SVG paths of bounded size: what a page draws, whatever the length of a signal.

Coordinates are percent of a box that the page stretches: x to the right, y downwards. All text
stays outside, as HTML, so that it keeps its size on a narrow screen.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_COLUMNS = 200
"""Beyond twice so many steps a curve becomes the range that it covers in each column."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The range of values that a box shows, from its lower to its upper edge."""

    low: float
    high: float

    @classmethod
    def around(cls, *arrays: NDArray[np.floating]) -> Scale:
        """The range of all finite values, never empty."""
        finite = [array[np.isfinite(array)] for array in map(np.asarray, arrays)]
        values = np.concatenate([part.ravel() for part in finite]) if finite else np.zeros(0)
        if not values.size:
            return cls(-1.0, 1.0)
        low, high = float(values.min()), float(values.max())
        if low == high:
            room = abs(low) or 1.0
            return cls(low - room, high + room)
        return cls(low, high)

    def place(self, value: float) -> float:
        """Percent of the way from the lower to the upper edge; outside values on the edge."""
        share = (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)  # no overflow
        return round(100 * min(max(share, 0.0), 1.0), 2)


def curve(signal: NDArray[np.floating], scale: Scale) -> str:
    """The path of a signal, (steps,), over the whole width; gaps where it is not finite."""
    if len(signal) > 2 * MOST_COLUMNS:
        return _ranges(signal, scale)
    width = max(len(signal) - 1, 1)
    points = [(100 * i / width, value) for i, value in enumerate(signal.tolist())]
    return _path(points, scale)


def _ranges(signal: NDArray[np.floating], scale: Scale) -> str:
    """Least and largest value of every column, joined: nothing that sticks out is lost."""
    points: list[tuple[float, float]] = []
    edges = [column * len(signal) // MOST_COLUMNS for column in range(MOST_COLUMNS + 1)]
    for begin, end in itertools.pairwise(edges):
        part = signal[begin:end]
        x, finite = 50 * (begin + end) / len(signal), part[np.isfinite(part)]
        if not finite.size or finite.size < part.size:
            points.append((x, float("nan")))
        if finite.size:
            least, most = int(finite.argmin()), int(finite.argmax())
            ends = sorted({least, most})
            points += [(x, float(finite[i])) for i in ends]
    return _path(points, scale)


def _path(points: list[tuple[float, float]], scale: Scale) -> str:
    parts, is_down = [], False
    for x, value in points:
        if not np.isfinite(value):
            is_down = False
            continue
        y = 96 - 0.92 * scale.place(value)  # room for the line's own width
        parts.append(f"{'L' if is_down else 'M'}{x:.4g} {y:.4g}")
        is_down = True
    return "".join(parts)
