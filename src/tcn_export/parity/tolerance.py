"""Every limit of the gate, in one place, with its reason.

None of them was chosen by what happens to pass. They come from the design; a test shows that
each class rejects zeros, a factor of two, a shift by one step, swapped channels and a changed
weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcn_export.parity.metrics import largest

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

SAME_SQNR_DB = 1.0
"""int8, verifying again: how far noise may rise over what the gate accepted at the export."""

SAME_AGREEMENT = 0.02
"""int8, verifying again: likewise for the share of equal answers."""

SAME_AGREEMENT_FLOAT32 = 0.001
"""float32, verifying again: a few roundings change an answer where two classes tie, and
nowhere else."""


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
    return float(np.sqrt(np.mean(np.square(float64)))) * 10 ** (-INT8_SQNR_DB / 20)
