"""The fewest that are enough, found with few looks at the test windows.

Every look makes the bound that each candidate is held to wider, so candidates that hardly
differ from one that failed are not worth one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tcn_export.parity.bounds import ALPHA

STEP_DB = 3.0
"""Half the noise: the least that makes a candidate another one."""
MOST_LOOKS = 3
"""They find one of seven candidates."""


def worth_a_look(failed_db: float, by_number: Sequence[float]) -> list[int]:
    """Numbers, the smallest first, each of which has half the noise of the one before.

    Args:
        failed_db: Signal-to-noise ratio of what failed already.
        by_number: Signal-to-noise ratio where 0, 1, 2 ... are taken.

    >>> worth_a_look(26.0, [27.0, 36.0, 37.0, 41.0])
    [1, 3]
    """
    found: list[int] = []
    best = failed_db
    for number, decibels in enumerate(by_number):
        if decibels >= best + STEP_DB:
            found.append(number)
            best = decibels
    last = len(by_number) - 1
    if by_number and last not in found:
        found.append(last)  # whatever noise says: the answers may say otherwise
    return thinned(found, MOST_LOOKS)


def looks_for(candidates: int, can_pass: Callable[[float], bool]) -> int:
    """How many candidates are judged to find one of so many, so that each can still pass.

    Args:
        candidates: How many there are.
        can_pass: Whether so many windows can show anything, where the bound may be wrong so
            often.

    >>> looks_for(7, lambda alpha: True), looks_for(7, lambda alpha: alpha > 0.04)
    (3, 1)
    """
    for looks in range(math.ceil(math.log2(candidates + 1)), 1, -1):
        if can_pass(ALPHA / looks):
            return looks
    return 1


def thinned(candidates: Sequence[int], looks: int) -> list[int]:
    """As many as so many looks search to the end; the last, which passes if any does, stays.

    >>> thinned(range(7), 3), thinned(range(7), 2), thinned(range(7), 1)
    ([0, 1, 2, 3, 4, 5, 6], [0, 3, 6], [6])
    """
    most = 2**looks - 1
    if len(candidates) <= most:
        return list(candidates)
    if most == 1:
        return [candidates[-1]]
    step = (len(candidates) - 1) / (most - 1)
    return [candidates[round(i * step)] for i in range(most)]


def bisect_fewest(
    passes: Callable[[int], bool], candidates: Sequence[int], looks: int
) -> int | None:
    """The least of some numbers that passes, where more never pass less.

    Args:
        passes: Judges a number; called at most ``looks`` times.
        candidates: In rising order.
        looks: How often it may be called.

    >>> bisect_fewest(lambda number: number >= 5, range(7), 3)
    5
    >>> bisect_fewest(lambda number: False, range(7), 3) is None
    True
    """
    low, high = -1, len(candidates)
    for _ in range(looks):
        if low + 1 >= high:
            break
        middle = (low + high) // 2
        if passes(candidates[middle]):
            high = middle
        else:
            low = middle
    return candidates[high] if high < len(candidates) else None
