"""Reads of single steps, written as one strided, dilated, padded window over what is stored.

Output i reads, by its tap j, the stored step ``index[i, j]``; where that is `OUTSIDE`, the tap
lies in the padding. The window has to hit the same steps, and to miss what is stored wherever
the tap lies outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OUTSIDE = -1
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Strided:
    """A window over the stored steps ``start`` to ``stop``, which is exclusive.

    Attributes:
        start: The first stored step that is kept.
        stop: Behind the last one.
        stride: Stored steps between two outputs.
        dilation: Stored steps between two taps.
        front: Steps of padding in front.
        behind: Steps of padding behind.
    """

    start: int
    stop: int
    stride: int
    dilation: int
    front: int
    behind: int


def fit(index: Index, stored: int) -> Strided | None:
    """The window that reads exactly so; None where there is none.

    Args:
        index: (outputs, taps), into the stored steps.
        stored: How many steps are stored.

    >>> fit(np.array([[-1, 0, 2], [2, 4, 6]]), 7)
    Strided(start=0, stop=7, stride=4, dilation=2, front=2, behind=0)
    >>> fit(np.array([[0, 1, 3], [1, 2, 4]]), 5)  # three taps at uneven distances
    """
    inside = index != OUTSIDE
    if not inside.any():
        return None
    outputs, taps = index.shape
    i, j = (axis[0] for axis in np.nonzero(inside))
    for stride in _spacings(index, inside, axis=0, longest=stored):
        for dilation in _spacings(index, inside, axis=1, longest=stored):
            first = int(index[i, j]) - stride * int(i) - dilation * int(j)
            read = first + stride * np.arange(outputs)[:, None] + dilation * np.arange(taps)
            if _hits(read, index, inside, stored):
                return _window(
                    first, int(read[-1, -1]), stride, dilation, taps, outputs, stored
                )
    return None


def _hits(read: Index, index: Index, inside: NDArray[np.bool_], stored: int) -> bool:
    misses = (read < 0) | (read >= stored)
    return bool((read[inside] == index[inside]).all() and misses[~inside].all())


def _window(
    first: int, last: int, stride: int, dilation: int, taps: int, outputs: int, stored: int
) -> Strided:
    front, behind = max(0, -first), max(0, last - stored + 1)
    start, stop = max(0, first), min(stored, last + 1)
    # Steps behind the last that is read do no harm where no further output fits on them.
    room = stored - start + front + behind - dilation * (taps - 1) - 1
    if room // stride + 1 == outputs:
        stop = stored
    return Strided(start, stop, stride, dilation, front, behind)


def _spacings(
    index: Index, inside: NDArray[np.bool_], axis: int, longest: int
) -> Iterator[int]:
    """What the distance between neighbours along an axis may be."""
    if index.shape[axis] == 1:
        yield 1
        return
    rows, valid = (index.T, inside.T) if axis == 0 else (index, inside)
    for row, is_inside in zip(rows, valid, strict=True):
        places = np.flatnonzero(is_inside)
        if len(places) > 1:  # two that are known settle it
            spacing, rest = divmod(int(row[places[-1]] - row[places[0]]), int(np.ptp(places)))
            if rest == 0 and spacing > 0:
                yield spacing
            return
    yield from range(1, longest + 1)


def useful_taps(index: Index) -> slice:
    """The taps that are not outside for every output; at least one."""
    places = np.flatnonzero((index != OUTSIDE).any(axis=0))
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 1)
