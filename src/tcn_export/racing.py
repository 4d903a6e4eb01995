"""Contestants timed side by side: in turns, so that what disturbs one disturbs all.

A machine is not equally fast all the time: clocks drift, other work comes and goes, and a call
that follows another contestant finds its data out of the caches. So contestants run in rounds.
In each round everyone gets one block: some calls that do not count, which bear what the one
before left behind, then the timed ones. The order changes from round to round so that over
`cycle` rounds everyone stands in every place, and behind every other, equally often (Williams
1949). Two contestants are compared round by round, where both met the same machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcn_export.bench import Latency
from tcn_export.progress import Advance, ignore

if TYPE_CHECKING:
    from tcn_export.data import Array
    from tcn_export.targets.base import Runner

ROUNDS = 30
MOST_CALLS = 20
FEWEST_CALLS = 3
BLOCK_SECONDS = 0.2
"""Slow contestants get fewer calls per round, but never fewer than `FEWEST_CALLS`."""
_WARM_UP_SHARE = 4
"""One call that does not count for so many that do; rounded up."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that one contestant's calls took, (rounds, calls)."""

    seconds: NDArray[np.float64]

    @property
    def median(self) -> float:
        """Seconds of the middle call, over all rounds."""
        return float(np.median(self.seconds))

    @property
    def round_medians(self) -> NDArray[np.float64]:
        """Seconds of the middle call in each round, (rounds,)."""
        medians: NDArray[np.float64] = np.median(self.seconds, axis=1)
        return medians

    def latency(self, threads: int) -> Latency:
        """Quantiles over all calls; ``threads`` is noted only."""
        return Latency.over(self.seconds.ravel(), threads)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long one contestant takes as another: quantiles over the rounds."""

    median: float
    p10: float
    p90: float
    rounds: int

    def to_json(self) -> dict[str, Any]:
        """Rounded, in JSON types."""
        quantiles = {"median": self.median, "p10": self.p10, "p90": self.p90}
        return {k: round(v, 4) for k, v in quantiles.items()} | {"rounds": self.rounds}


def ratio(one: Timing, other: Timing) -> Ratio:
    """Compare two contestants of one race, round by round.

    Args:
        one: Its time is the numerator.
        other: Its time is the denominator.
    """
    shares = one.round_medians / other.round_medians
    p10, median, p90 = (float(q) for q in np.percentile(shares, [10, 50, 90]))
    return Ratio(median, p10, p90, len(shares))


def race(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int = ROUNDS,
    calls: int | None = None,
    warm_up: int | None = None,
    clock: Clock = time.perf_counter,
    before: Callable[[str], object] | None = None,
    advance: Advance = ignore,
) -> dict[str, Timing]:
    """Time contestants in turns.

    Args:
        contestants: What to call, by name.
        rounds: How often everyone gets a block; best a multiple of `cycle`.
        calls: Timed calls per block; None takes as many as fit `BLOCK_SECONDS`.
        warm_up: Calls at the start of each block that do not count; None takes a quarter as
            many as those that do.
        clock: Tells seconds.
        before: Called with a contestant's name before each of its blocks; not timed.
        advance: Told of every round.

    Returns:
        By name, as ``contestants`` has them.
    """
    names = list(contestants)
    before = before or _nothing
    if calls is None:
        calls = _fitting_calls(contestants, clock, before)
    if warm_up is None:
        warm_up = math.ceil(calls / _WARM_UP_SHARE)
    if not names or min(rounds, calls) < 1 or warm_up < 0:
        raise ValueError(f"{len(names)} contestants, {rounds} rounds of {calls} calls")
    seconds = {name: np.zeros((rounds, calls)) for name in names}
    orders = _orders(len(names))
    for number in range(rounds):
        for place in orders[number % len(orders)]:
            name = names[place]
            before(name)
            _run_block(contestants[name], warm_up, seconds[name][number], clock)
        advance()
    return {name: Timing(seconds[name]) for name in names}


def race_runners(
    runners: Mapping[str, Runner],
    feeds: Mapping[str, Mapping[str, Array]],
    rounds: int = ROUNDS,
    advance: Advance = ignore,
) -> dict[str, Timing]:
    """Time runners in turns; streams begin anew with each block, and go on within it.

    Args:
        runners: By name.
        feeds: What each runner is called with, by its name.
        rounds: See `race`.
        advance: Told of every round.
    """
    contestants = {name: partial(runner.run, feeds[name]) for name, runner in runners.items()}
    return race(
        contestants, rounds, before=lambda name: runners[name].reset(), advance=advance
    )


def cycle(contestants: int) -> int:
    """Rounds after which every order has come up."""
    return len(_orders(contestants))


def _fitting_calls(
    contestants: Mapping[str, Callable[[], object]],
    clock: Clock,
    before: Callable[[str], object],
) -> int:
    """Calls of the slowest contestant that fit `BLOCK_SECONDS`, found by calling each."""
    slowest = 0.0
    for name, call in contestants.items():
        before(name)
        trial = np.zeros(1)
        _run_block(call, 1, trial, clock)  # the first call makes room; it tells nothing
        slowest = max(slowest, float(trial[0]))
    most = int(BLOCK_SECONDS / slowest) if slowest else MOST_CALLS
    return max(FEWEST_CALLS, min(MOST_CALLS, most))


def _nothing(name: str) -> None:
    del name


def _run_block(
    call: Callable[[], object], warm_up: int, seconds: NDArray[np.float64], clock: Clock
) -> None:
    """Fill ``seconds``, (calls,), with what each call took after the warm-up."""
    for _ in range(warm_up):
        call()
    for index in range(len(seconds)):
        start = clock()
        call()
        seconds[index] = clock() - start


def _orders(count: int) -> list[list[int]]:
    """Williams' design: everyone in every place, and behind every other, equally often.

    Who came last in a round comes first in the next wherever the design has such a round, so
    that what happens between two rounds favours nobody either.

    >>> _orders(3)
    [[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 2, 1], [1, 0, 2], [2, 1, 0]]
    """
    zigzag = [(i + 1) // 2 if i % 2 else -(i // 2) for i in range(count)]
    rows = [[(start + step) % count for step in zigzag] for start in range(count)]
    if count % 2 and count > 1:  # with an odd number it takes the mirrored orders too
        rows += [row[::-1] for row in rows]
    orders = [rows.pop(0)]
    while rows:
        orders.append(next((row for row in rows if row[0] == orders[-1][-1]), rows[0]))
        rows.remove(orders[-1])
    return orders
