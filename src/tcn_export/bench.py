"""Latency of a runner: wall time per call, one window at a time.

Part of ``build_engine.py``: Python 3.8 and numpy only.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tcn_export.targets.base import Runner

WARM_UP_CALLS = 20
MOST_CALLS = 300
MOST_SECONDS = 0.5


@dataclass(frozen=True)
class Latency:
    """Microseconds per call, over ``calls`` calls with ``threads`` threads."""

    median_us: float
    p90_us: float
    p99_us: float
    calls: int
    threads: int

    @classmethod
    def over(cls, seconds: Sequence[float] | NDArray[np.float64], threads: int) -> Latency:
        """Quantiles of the seconds that every call took."""
        median, p90, p99 = (float(q) * 1e6 for q in np.percentile(seconds, [50, 90, 99]))
        return cls(median, p90, p99, np.size(seconds), threads)

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest."""
        return {
            "median_us": round(self.median_us, 1),
            "p90_us": round(self.p90_us, 1),
            "p99_us": round(self.p99_us, 1),
            "calls": self.calls,
            "threads": self.threads,
        }


def measure_latency(
    runner: Runner, feeds: Mapping[str, NDArray[Any]], threads: int
) -> Latency:
    """Time calls with the same feeds until `MOST_CALLS` or `MOST_SECONDS` are reached.

    Args:
        runner: What to call.
        feeds: Its inputs.
        threads: What the runner was built with; noted only.
    """
    for _ in range(WARM_UP_CALLS):
        runner.run(feeds)
    seconds: list[float] = []
    end = time.perf_counter() + MOST_SECONDS
    while len(seconds) < MOST_CALLS and (not seconds or time.perf_counter() < end):
        start = time.perf_counter()
        runner.run(feeds)
        seconds.append(time.perf_counter() - start)
    return Latency.over(seconds, threads)
