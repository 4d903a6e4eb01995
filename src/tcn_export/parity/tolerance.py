"""Every limit of the gate, in one place, with its reason.

None of them was chosen by what happens to pass. They come from the design; a test shows that
each class rejects zeros, a factor of two, a shift by one step, swapped channels and a changed
weight.

Part of ``build_engine.py``: Python 3.8, numpy and the standard library only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tcn_export.parity.metrics import largest, sqnr_db

if TYPE_CHECKING:
    from numpy.typing import NDArray

EAGER_MULTIPLE = 8.0
"""float32: another order of summation may err a few times as much as eager float32 does."""

EPSILON_MULTIPLE = 16.0
"""float32: where eager happens to hit the truth, a few roundings of the largest output."""

INT8_SQNR_DB = 20.0
"""int8, no labels: noise under a tenth of the signal, by root mean square."""

INT8_AGREEMENT = 0.98
"""int8, no labels: share of real windows whose top answer is the eager model's."""

INT8_LABELLED_SQNR_DB = 10.0
"""int8, with labels: the answers decide, but what is built on the outputs (softmax,
thresholds) needs their scale; outputs twice or half as large as due are 0 and 6 dB."""

MAX_DROP_POINTS = 1.0
"""int8, with labels: default of --max-drop, for the upper 95 % bound of the accuracy lost."""

FLOAT16_SQNR_DB = 50.0
"""float16, real windows: noise under 0.3 % of the signal. One rounding to 11 bits leaves about
74 dB, a network of tens of layers about 60; a wrong layer leaves less than 30."""

FLOAT16_STRESS_SQNR_DB = 40.0
"""float16, each feed of the stress set: noise under 1 % of the signal, on signals that are
larger, smaller and flatter than any that the network was made for."""

FLOAT16_EAGER_MULTIPLE = 4.0
"""float16, stress set: half of what float32 is allowed, as root mean squares vary less than
largest errors; see `float16_limit`."""

FLOAT16_CANCELLED_SQNR_DB = 20.0
"""float16, stress set: noise under a tenth of an answer whose terms cancel; zeros, and outputs
twice as large as due, have 0 dB. See `float16_limit`."""

SAME_AGREEMENT_FLOAT16 = 0.005
"""float16, verifying again: runtimes differ in where they round, and noise under 0.3 % of the
signal changes an answer only where two classes are nearly equal."""

SAME_SQNR_DB = 1.0
"""int8, verifying again: how far noise may rise over what the gate accepted at the export, on
so many values that chance adds nothing; see `same_sqnr_limit`."""

SAME_SQNR_DEVIATIONS = 3.09
"""int8, verifying again: how many standard deviations of chance the noise may rise."""

SAME_AGREEMENT = 0.02
"""int8, verifying again: likewise for the share of equal answers."""

SAME_AGREEMENT_FLOAT32 = 0.001
"""float32, verifying again: a few roundings change an answer where two classes tie, and
nowhere else."""

NOISE_DRAWN_ANEW = 4.0
"""Layers, float16 and int8 on another machine: how far a value may move from that of the
export, in energies of the noise it had there. Two independent draws are 2 apart; sketches and
few values scatter."""


def float32_limit(eager_error: float, largest: float) -> float:
    """Largest absolute error that a float32 artifact may make.

    Args:
        eager_error: Largest absolute error of eager float32 against eager float64, of all
            that were drawn.
        largest: Largest absolute output of eager float64.
    """
    epsilon = float(np.finfo(np.float32).eps)
    return max(EAGER_MULTIPLE * eager_error, EPSILON_MULTIPLE * epsilon * largest)


def noise_floor(precision: str, float64: NDArray[Any], eager_error: float) -> float:
    """How much of an output's variation a precision may lose; less counts as constant."""
    if precision == "float32":
        return float32_limit(eager_error, largest(float64))
    least = FLOAT16_STRESS_SQNR_DB if precision == "float16" else INT8_SQNR_DB
    return float(np.sqrt(np.mean(np.square(float64)))) * 10 ** (-least / 20)


def same_sqnr_limit(recorded: float, values: int) -> float:
    """Least signal-to-noise ratio in dB where int8 is verified again.

    Kernels that round elsewhere draw part of the noise anew, so the ratio of few values
    scatters. The mean square of n independent normal numbers has a standard deviation of
    10 / ln 10 * sqrt(2 / n) dB, the difference of two draws sqrt(2) times that: 2.5 dB for two
    windows of six classes, which may thus fall by 7.7 dB. Outputs of one window are not
    independent, which widens it; most of the noise is not drawn anew, which narrows it more:
    two optimisation levels of ONNX Runtime scatter by half of this. However few the values,
    outputs keep their scale: the limit stays at that for labelled windows, if so much was
    recorded.

    Args:
        recorded: The ratio at the export.
        values: How many numbers it was measured on.
    """
    scatter = 10 / math.log(10) * math.sqrt(4 / values)
    by_chance = recorded - max(SAME_SQNR_DB, SAME_SQNR_DEVIATIONS * scatter)
    return max(by_chance, min(recorded - SAME_SQNR_DB, INT8_LABELLED_SQNR_DB))


def float16_limit(kind: str, float64: NDArray[Any], float32: NDArray[Any]) -> float:
    """Least signal-to-noise ratio in dB of a float16 artifact on a kind of feed.

    An answer of few numbers may lie near zero because its terms cancel: then little signal is
    left, beside the noise of large terms. Eager float32 loses as many of its digits there. So
    on the stress set noise may also reach a multiple of eager float32's own, times the ratio
    of the two precisions, but never more than a tenth of the signal. For answers that do not
    cancel that is less than they may have anyway. It leaves nothing to an answer that is
    exactly zero: float16 has exact zeros too, and any noise beside them is a fault.
    """
    if kind == "real":
        return FLOAT16_SQNR_DB
    if not np.isfinite(float32).all() or not np.any(float64):
        return FLOAT16_STRESS_SQNR_DB
    ratio = np.finfo(np.float16).eps / np.finfo(np.float32).eps
    eager = sqnr_db(float32, float64) - 20 * math.log10(FLOAT16_EAGER_MULTIPLE * ratio)
    return min(FLOAT16_STRESS_SQNR_DB, max(eager, FLOAT16_CANCELLED_SQNR_DB))


def layer_noise(precision: str, kind: str, signal: float, float32_noise: float) -> float:
    """Energy of the noise that a value between layers may have, against float64.

    The limits are those of outputs, with energies for largest errors.

    Args:
        precision: Of the artifact.
        kind: Of the feed.
        signal: Energy of the value in float64.
        float32_noise: Energy of what the float32 graph errs in it, plainly evaluated.
    """
    if precision == "float32":
        return roundings(signal, float32_noise)
    if precision == "int8":
        return signal * 10 ** (-INT8_SQNR_DB / 10)
    if kind == "real":
        return signal * 10 ** (-FLOAT16_SQNR_DB / 10)
    ratio = float(np.finfo(np.float16).eps / np.finfo(np.float32).eps)
    eager = (FLOAT16_EAGER_MULTIPLE * ratio) ** 2 * float32_noise
    most = signal * 10 ** (-FLOAT16_CANCELLED_SQNR_DB / 10)
    return max(signal * 10 ** (-FLOAT16_STRESS_SQNR_DB / 10), min(eager, most))


def roundings(signal: float, float32_noise: float) -> float:
    """Energy of what another order of summation may change in a value of float32."""
    epsilon = float(np.finfo(np.float32).eps)
    return max(EAGER_MULTIPLE**2 * float32_noise, (EPSILON_MULTIPLE * epsilon) ** 2 * signal)
