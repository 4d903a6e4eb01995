"""How far two outputs are apart. The oracle is always the second argument.

Part of ``build_engine.py``: Python 3.8 and numpy only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tcn_export.data import Array

CLASS_AXIS = 1


def where_finite(output: Array, oracle: Array) -> Array:
    """The values where the oracle's are finite: all of them as they are, or a list of them."""
    finite = np.isfinite(oracle)
    return output if finite.all() else output[finite]


def kinds(output: Array) -> NDArray[np.int8]:
    """0 for a finite number, 1 and -1 for the infinities, 2 for NaN."""
    infinite = np.isposinf(output).astype(np.int8) - np.isneginf(output).astype(np.int8)
    marked: NDArray[np.int8] = np.where(np.isnan(output), np.int8(2), infinite)
    return marked


def max_abs_error(actual: Array, oracle: Array) -> float:
    """Largest absolute difference, over the values that the oracle has.

    Infinite where another has none for one of them.
    """
    values = where_finite(actual, oracle).astype(np.float64)
    if not np.isfinite(values).all():
        return float("inf")
    return float(np.max(np.abs(values - where_finite(oracle, oracle)), initial=0.0))


def largest(output: Array) -> float:
    """Largest absolute value."""
    return float(np.max(np.abs(output), initial=0.0))


def energy(output: Array) -> float:
    """Sum of squares."""
    return float(np.sum(np.square(output.astype(np.float64))))


def decibels(signal_energy: float, noise_energy: float) -> float:
    """Signal-to-quantisation-noise ratio of two energies, in dB."""
    if noise_energy == 0:
        return float("inf")
    if not np.isfinite(noise_energy):
        return float("-inf")
    return (
        float("-inf")
        if signal_energy == 0
        else 10 * float(np.log10(signal_energy / noise_energy))
    )


def sqnr_db(actual: Array, oracle: Array) -> float:
    """Signal-to-quantisation-noise ratio in dB: 20 log10(|oracle| / |actual - oracle|)."""
    return decibels(energy(oracle), energy(actual.astype(np.float64) - oracle))


def answers(output: Array) -> NDArray[np.int64]:
    """The top class of every window, or of every step: argmax over the class axis."""
    top: NDArray[np.int64] = np.argmax(output, axis=CLASS_AXIS).astype(np.int64)
    return top


def agreement(actual: Array, oracle: Array) -> float:
    """Share of windows (or steps) with the oracle's top answer."""
    return float(np.mean(answers(actual) == answers(oracle)))
