from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcn_export.report.plots import MOST_COLUMNS, Scale, curve


def points(path):
    found = re.findall(r"([ML])([\d.e+-]+) ([\d.e+-]+)", path)
    return [(kind, float(x), float(y)) for kind, x, y in found]


def test_short_signal_is_drawn_point_by_point():
    drawn = points(curve(np.array([0.0, 1.0, 0.5]), Scale(0.0, 1.0)))
    assert drawn == [("M", 0, 96), ("L", 50, 4), ("L", 100, 50)]


def test_gap_stands_where_a_signal_is_not_finite():
    drawn = points(curve(np.array([0.0, np.nan, np.inf, 1.0, 0.0]), Scale(0.0, 1.0)))
    assert [kind for kind, _, _ in drawn] == ["M", "M", "L"]


@given(st.integers(2 * MOST_COLUMNS + 1, 20_000), st.data())
def test_one_step_that_sticks_out_is_never_lost(length, data):
    """The reason for ranges: sampling every n-th step would lose an impulse."""
    at = data.draw(st.integers(0, length - 1))
    signal = np.zeros(length)
    signal[at] = 1.0
    drawn = points(curve(signal, Scale.around(signal)))
    assert len(drawn) <= 2 * MOST_COLUMNS
    (peak,) = [x for _, x, y in drawn if y == 4]
    assert abs(peak - 100 * at / length) <= 100 / MOST_COLUMNS


def test_path_stays_small_whatever_the_length():
    rng = np.random.default_rng(0)
    signal = rng.standard_normal(500_000)
    assert len(curve(signal, Scale.around(signal))) < 6000


@pytest.mark.parametrize("value", [0.0, 5.0, -1e300, 1e-320])
def test_constant_has_a_scale_of_its_own(value):
    scale = Scale.around(np.full(4, value))
    assert scale.low < value < scale.high
    assert 0 < scale.place(value) < 100


def test_scale_knows_finite_values_only_and_survives_the_largest():
    assert Scale.around(np.array([np.nan, np.inf, 1.0, 2.0])) == Scale(1.0, 2.0)
    assert Scale.around(np.array([np.nan])) == Scale(-1.0, 1.0)
    assert Scale.around() == Scale(-1.0, 1.0)
    largest = np.finfo(np.float64).max
    assert Scale.around(np.array([-largest, largest])).place(0.0) == 50.0
    assert Scale(0.0, 1.0).place(7.0) == 100.0
