"""Does the answer to one window depend on the others of its batch?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcn_export.errors import UnsupportedModelError

Run = Callable[[NDArray[np.float32]], Mapping[str, NDArray[Any]]]
"""Answers windows, (rows, ...), with every output by name, batch first."""

ROUNDING = 1e-9
"""Of the largest value: more than float64 loses to a library that adds in another order."""
_PLAIN = 1e-3
"""Of the largest value: more than float32 loses to that, where a network computes in it."""


def mixes_windows(name: str) -> UnsupportedModelError:
    """The error for an output of a network that mixes the windows of a batch."""
    return UnsupportedModelError(
        f"what the network answers to one window as `{name}` depends on the other "
        "windows of its batch. Mind sums, means and norms over the batch axis."
    )


def check_apart(run: Run, windows: NDArray[np.float32], alone: int) -> None:
    """Ask for windows alone, and for the same ones in a batch.

    Libraries may add in another order for another batch, and a network may compute in float32
    at heart. So where the two differ by little, batches of one size are compared: of several
    windows, and of one of them again and again.

    Args:
        run: The eager model.
        windows: Different ones, (rows, ...); at least two.
        alone: So many of them are asked for alone.

    Raises:
        UnsupportedModelError: The answers differ.
    """
    together = run(windows)
    for i in range(alone):
        answers = run(windows[i : i + 1])
        far = {
            name: distance(answer[0], together[name][i]) for name, answer in answers.items()
        }
        if max(far.values(), default=0.0) > ROUNDING:
            again = run(np.repeat(windows[i : i + 1], len(windows), axis=0))
            for name, apart in far.items():
                if apart > _PLAIN or distance(again[name][i], together[name][i]) > ROUNDING:
                    raise mixes_windows(name)


def distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    """The largest difference, as a share of the largest value.

    Values that are not finite are equal to themselves, and infinitely far from all others.
    """
    one, other = one.astype(np.float64), other.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    if same.all():
        return 0.0
    if not (same | np.isfinite(one) & np.isfinite(other)).all():
        return np.inf
    finite = np.isfinite(one)
    one, other = one[finite], other[finite]
    return _largest(one - other) / max(_largest(one), _largest(other))


def _largest(values: NDArray[Any]) -> float:
    return float(np.abs(values).max())
