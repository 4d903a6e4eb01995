"""How an artifact's errors are spread, in multiples of what eager float32 itself errs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tcn_export.parity.golden import Golden
from tcn_export.report.signals import Outputs

_LEAST = -2  # decades; what is smaller, or larger than the most, shares one bar
_MOST = 9
_PER_DECADE = 2


@dataclass(frozen=True, slots=True)
class Bar:
    """Values whose error lies between two multiples of eager float32's own."""

    low: str
    high: str
    count: int
    height: float
    label: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """All golden values by their error.

    Attributes:
        bars: From the smallest errors to the largest.
        values: How many values are counted.
        largest: The largest multiple.
        exact: Values of outputs that eager float32 computes exactly: there is no multiple.
        broken: Values that are not finite.
    """

    bars: tuple[Bar, ...]
    values: int
    largest: str
    exact: int
    broken: int


def error_histogram(golden: Golden, outputs: Outputs) -> Histogram | None:
    """Count the errors on all golden feeds; None where there is nothing to count."""
    multiples: list[float] = []
    exact = broken = 0
    for feed in golden.feeds:
        reference = golden.references[feed.name]
        for name, wanted in reference.float64.items():
            found = outputs.get(feed.name, {}).get(name)
            if found is None or found.shape != wanted.shape:
                continue
            own = reference.eager_error(name)
            with np.errstate(invalid="ignore", over="ignore"):
                errors = np.abs(found.astype(np.float64) - wanted).ravel()
            if not math.isfinite(own) or own == 0:
                exact += errors.size
                continue
            finite = errors[np.isfinite(errors)]
            broken += errors.size - finite.size
            multiples += (finite / own).tolist()
    if not multiples:
        return None
    return Histogram(
        _bars(np.array(multiples)), len(multiples), _short(max(multiples)), exact, broken
    )


def _bars(multiples: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[Bar, ...]:
    with np.errstate(divide="ignore"):
        decades = np.log10(multiples)
    bins = np.floor(decades.clip(_LEAST - 0.1, _MOST) * _PER_DECADE).astype(int)
    first = max(int(bins.min()), _LEAST * _PER_DECADE - 1)
    last = max(int(bins.max()), _PER_DECADE)
    counts = np.bincount(bins.clip(first) - first, minlength=last - first + 1)
    bars = []
    for offset, count in enumerate(counts.tolist()):
        low = first + offset
        edges = [10 ** (edge / _PER_DECADE) for edge in (low, low + 1)]
        is_open = low < _LEAST * _PER_DECADE
        label = _short(edges[0]) if low % _PER_DECADE == 0 else ""
        bars.append(
            Bar(
                "0" if is_open else _short(edges[0]),
                _short(edges[1]),
                count,
                round(100 * count / int(counts.max()), 2),
                "0" if is_open else label,
            )
        )
    return tuple(bars)


def _short(number: float) -> str:
    """A number in few characters: 0.03, 300, 30k, 3M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"
