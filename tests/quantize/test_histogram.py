"""What is counted batch by batch is what would be counted at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tcn_export.quantize import histogram as module
from tcn_export.quantize.histogram import BINS, Histogram

finite = st.floats(-1e6, 1e6, width=32)
signals = arrays(np.float32, array_shapes(max_dims=3, max_side=40), elements=finite)


def count(*batches):
    whole = np.concatenate([batch.ravel() for batch in batches])
    histogram = Histogram.empty(float(whole.min()), float(whole.max()))
    for batch in batches:
        histogram = histogram.add(batch)
    return histogram


@given(batches=st.lists(signals, min_size=1, max_size=5))
def test_any_split_into_batches_gives_the_same_counts(batches):
    parts = count(*batches)
    whole = count(np.concatenate([batch.ravel() for batch in batches]))
    assert (parts.low, parts.high, parts.zeros) == (whole.low, whole.high, whole.zeros)
    np.testing.assert_array_equal(parts.counts, whole.counts)


@given(values=signals)
def test_every_number_is_counted_once(values):
    histogram = count(values)
    assert histogram.zeros == np.count_nonzero(values == 0)
    assert histogram.counts.sum() + histogram.zeros == values.size


@given(values=signals)
def test_numbers_lie_within_the_edges_of_their_bin(values):
    histogram = count(values)
    edges = histogram.edges
    slack = 1e-9 * (histogram.high - histogram.low)
    for place in np.flatnonzero(histogram.counts):
        within = (values >= edges[place] - slack) & (values <= edges[place + 1] + slack)
        assert np.count_nonzero(within & (values != 0)) >= histogram.counts[place]


def test_counts_are_those_of_numpy(monkeypatch):
    # an odd number at a time, so that the parts end in the middle of a row
    monkeypatch.setattr(module, "_AT_ONCE", 1001)
    values = np.random.default_rng(0).standard_normal((7, 5, 333)).astype(np.float32)
    histogram = count(values)
    expected, edges = np.histogram(values.astype(np.float64), histogram.edges)
    np.testing.assert_array_equal(histogram.edges, edges)
    np.testing.assert_array_equal(histogram.counts, expected)


def test_zero_lies_between_the_limits():
    histogram = count(np.array([3.0, 5.0], np.float32))
    assert (histogram.low, histogram.high) == (0, 5)
    histogram = count(np.array([-5.0, -3.0], np.float32))
    assert (histogram.low, histogram.high) == (-5, 0)
    assert histogram.zero_bin == BINS - 1
    assert count(np.array([-1.0, 3.0], np.float32)).zero_bin == BINS // 4


@given(values=signals)
def test_folding_counts_absolute_values(values):
    histogram = count(values)
    folded = histogram.folded()
    if histogram.low == histogram.high:
        return
    assert folded.sum() == pytest.approx(histogram.counts.sum())
    # up to every edge so many absolute values, give or take what shares a bin with the edge
    edges = np.linspace(0, histogram.largest, BINS + 1)
    width = histogram.edges[1] - histogram.edges[0]
    size = np.sort(np.abs(values[values != 0].astype(np.float64)))
    for place in range(0, BINS + 1, 97):
        fewest = np.searchsorted(size, edges[place] - 1.001 * width)
        most = np.searchsorted(size, edges[place] + 1.001 * width, side="right")
        assert fewest - 1e-6 <= folded[:place].sum() <= most + 1e-6


@pytest.mark.parametrize("limit", [1e-45, 3e38])
def test_the_smallest_and_the_largest_numbers_have_their_bins(limit):
    values = np.array([-limit, 0, limit], np.float32)
    histogram = count(values)
    assert histogram.zeros == 1
    assert histogram.counts.sum() == 2
    assert np.isfinite(histogram.folded()).all()
