"""Does the error of a stream grow with time? The noise of each tenth of a long signal.

Some tenths of a signal are harder than others: they are quieter, or leave the range that was
calibrated. So the last tenth is not held against the first, which is another signal, but
against itself: what the same artifact answers to the same steps when it begins anew just
before them. A stream whose answers depend on a bounded past answers the same, to the bit where
its kernels round the same; one whose error grows answers worse.

Pure numpy, so that a device can ask it too: Python 3.8 and the standard library else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tcn_export.parity.metrics import decibels, energy
from tcn_export.parity.rows import Row, at_least
from tcn_export.parity.tolerance import INT8_SQNR_DB, same_sqnr_limit

if TYPE_CHECKING:
    from tcn_export.data import Array

PARTS = 10
"""Parts that a long signal is divided into."""
EACH, LAST = "sqnr_db_worst_tenth", "sqnr_db_last_tenth"
"""Metrics of the rows."""


@dataclass(frozen=True)
class Drift:
    """The noise of a stream over time.

    Attributes:
        tenths: Signal-to-quantisation-noise ratio of each tenth, in dB.
        begun_anew: That of the last tenth where the stream begins just before it.
        values: How many numbers a tenth has.
    """

    tenths: tuple[float, ...]
    begun_anew: float
    values: int

    def to_json(self) -> dict[str, object]:
        """The entry of the manifest; infinities become strings, which JSON lacks."""
        return {
            "sqnr_db_of_tenths": [_plain(value) for value in self.tenths],
            "sqnr_db_of_last_begun_anew": _plain(self.begun_anew),
        }


def begin_anew_at(steps: int, receptive_field: int, hop: int) -> int:
    """Where a stream has to begin to answer the last tenth of a signal as the whole one does.

    Args:
        steps: Of the signal, a multiple of ``hop``.
        receptive_field: Steps that an answer depends on, those ahead of it among them.
        hop: Steps at a time.

    Returns:
        A step of the signal, a multiple of ``hop``.

    >>> begin_anew_at(steps=1000, receptive_field=61, hop=16)
    816
    """
    # A hop more, as an answer comes with the hop that its last step is in.
    return max(0, steps - -(-steps // PARTS) - receptive_field - hop) // hop * hop


def measure_drift(actual: Array, oracle: Array, anew: Array, time_axis: int) -> Drift:
    """Compare a stream with the oracle over time.

    Args:
        actual: The answers of the stream to a long signal, at every step.
        oracle: Those of the eager model in float64, of the same shape.
        anew: What the stream answers when it begins at `begin_anew_at`: the last steps again.
        time_axis: Of all three.

    Raises:
        ValueError: There is no step for each tenth, or ``anew`` is shorter than a tenth.
    """
    steps = oracle.shape[time_axis]
    if actual.shape != oracle.shape or steps < PARTS:
        raise ValueError(
            f"answers of the shape {actual.shape} and {oracle.shape}: expected equal ones, "
            f"with at least {PARTS} steps on axis {time_axis}."
        )
    ours, theirs = (np.array_split(each, PARTS, time_axis) for each in (actual, oracle))
    last = theirs[-1].shape[time_axis]
    if anew.shape[time_axis] < last:
        raise ValueError(
            f"the stream that begins anew gave {anew.shape[time_axis]} steps, but the last "
            f"tenth has {last}. Begin earlier; see `begin_anew_at`."
        )
    again = np.moveaxis(np.moveaxis(anew, time_axis, 0)[-last:], 0, time_axis)
    usual = energy(oracle) / oracle.size
    tenths = tuple(_ratio(ours[i], theirs[i], usual) for i in range(PARTS))
    return Drift(tenths, _ratio(again, theirs[-1], usual), theirs[-1].size)


def judge_drift(
    feed: str, output: str, drift: Drift, least: float = INT8_SQNR_DB
) -> list[Row]:
    """Hold the noise of a stream over time against its limits.

    Args:
        feed: Name of the signal.
        output: Whose answers they are.
        drift: What was measured.
        least: The limit of the class in dB, which no tenth may miss.

    Returns:
        A row for the worst tenth, and one for the last. That may be worse than what the stream
        answers when it begins anew, by what kernels change that round elsewhere; see
        `tolerance.same_sqnr_limit`.
    """
    told = "tenths: " + ", ".join(f"{value:.1f}" for value in drift.tenths) + " dB"
    last, anew = drift.tenths[-1], drift.begun_anew
    note = f"{anew:.1f} dB when the stream begins anew before it"
    limit = same_sqnr_limit(anew, drift.values)
    return [
        at_least(feed, output, EACH, min(drift.tenths), least, told),
        at_least(feed, output, LAST, last, limit, note),
    ]


def _ratio(actual: Array, oracle: Array, usual: float) -> float:
    """Signal to noise in dB, in a quiet part with the signal's usual power for its own.

    Where a signal is silent, any noise is infinitely more than it; what is built on the
    answers knows them by their usual size.
    """
    noise = energy(actual.astype(np.float64) - oracle)
    return decibels(max(energy(oracle), usual * oracle.size), noise)


def _plain(value: float) -> object:
    return round(value, 2) if np.isfinite(value) else str(value)
