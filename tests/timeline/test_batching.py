"""Windows alone and in a batch: who mixes them is refused, and nobody else."""

from __future__ import annotations

import numpy as np
import pytest

from tcn_export.errors import UnsupportedModelError
from tcn_export.timeline import perturbing
from tcn_export.timeline.batching import check_apart, distance
from timeline.test_dependence import odd

WINDOWS = np.arange(6, dtype=np.float32).reshape(3, 1, 2)
MIXED = "depends on the other windows of its batch"


@pytest.mark.parametrize("name", ["Mixed", "BatchNormed"])
@pytest.mark.parametrize("is_large", [False, True])
def test_networks_that_mix_windows_are_refused_also_where_one_window_is_a_call(
    name, is_large, monkeypatch
):
    if is_large:
        monkeypatch.setattr(perturbing, "_MULTIPLICATIONS", 1.0)
        monkeypatch.setattr(perturbing, "_PER_CALL", 1.0)
    with pytest.raises(UnsupportedModelError, match=MIXED):
        odd(name)


def test_a_little_mixing_is_told_from_rounding():
    def mixing(x):
        return {"y": x + 1e-6 * x.mean(0, keepdims=True)}

    def rounding(x):
        return {"y": x + 1e-6 * len(x)}

    check_apart(rounding, WINDOWS, 3)
    with pytest.raises(UnsupportedModelError, match=f"`y` {MIXED}"):
        check_apart(mixing, WINDOWS, 3)
    with pytest.raises(UnsupportedModelError, match=f"`y` {MIXED}"):
        check_apart(lambda x: {"y": x * len(x)}, WINDOWS, 1)


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ([1.0, 4.0], [1.0, 5.0], 0.2),
        ([1.0, 4.0], [1.0, 4.0], 0.0),
        ([np.nan, np.inf, -np.inf], [np.nan, np.inf, -np.inf], 0.0),
        ([np.nan, 4.0], [np.nan, 5.0], 0.2),
        ([np.inf, 4.0], [-np.inf, 4.0], np.inf),
        ([np.nan, 4.0], [1.0, 4.0], np.inf),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([True, False], [True, True], 1.0),
    ],
)
def test_values_that_are_not_finite_equal_themselves(one, other, share):
    assert distance(np.array(one), np.array(other)) == share
