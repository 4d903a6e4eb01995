"""Each method's range is held to its definition on the numbers themselves, not on counts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnxruntime.quantization.calibrate import HistogramCollector

from tcn_export.quantize.choose_range import CHOOSE, LEFT_OUT, percentile_range
from tcn_export.quantize.entropy_range import entropy_range
from tcn_export.quantize.histogram import BINS, Histogram
from tcn_export.quantize.mse_range import expected_squared_error, mse_range

COUNT = 200_000


def draw(name, seed=0):
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(COUNT)
    outliers = np.where(rng.random(COUNT) < 1e-4, 40 * normal, normal)
    return {
        "normal": normal,
        "behind a ReLU": np.maximum(normal - 0.5, 0),
        "laplace": rng.laplace(size=COUNT),
        "skewed": rng.gamma(1.5, size=COUNT) - 0.7,
        "below zero": -rng.gamma(2.0, size=COUNT),
        "outliers": outliers,
        "offset": normal + 9.81,
    }[name].astype(np.float32)


NAMES = ("normal", "behind a ReLU", "laplace", "skewed", "below zero", "outliers", "offset")


def count(values):
    return Histogram.empty(float(values.min()), float(values.max())).add(values)


def squared_error(values, low, high, symmetric):
    """What a quantiser of 8 bits really loses, number by number."""
    x = values.astype(np.float64)
    if symmetric:
        scale, zero, least, most = high / 127, 0, -127, 127
    else:
        scale = (high - low) / 255
        zero, least, most = round(-low / scale), 0, 255
    integers = np.clip(np.rint(x / scale) + zero, least, most)
    return float(np.sum((x - (integers - zero) * scale) ** 2))


@given(
    values=arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e3, 1e3, width=32)),
    method=st.sampled_from(sorted(CHOOSE)),
    symmetric=st.booleans(),
)
def test_every_range_has_zero_in_it_and_lies_within_what_was_seen(values, method, symmetric):
    low, high = CHOOSE[method](count(values), symmetric)
    assert low <= 0 <= high
    largest = float(np.abs(values).max())
    least, most = min(float(values.min()), 0), max(float(values.max()), 0)
    if symmetric:
        assert -low == high
        least, most = -largest, largest
    assert low >= least * (1 + 1e-9)
    assert high <= most * (1 + 1e-9)
    assert (low, high) != (0, 0) or largest == 0 or largest < 1e-30


@pytest.mark.parametrize("method", sorted(CHOOSE))
def test_ranges_behind_a_relu_begin_with_zero(method):
    low, high = CHOOSE[method](count(draw("behind a ReLU")), False)
    assert low == 0 < high


@pytest.mark.parametrize("name", NAMES)
def test_percentile_is_that_of_the_numbers_to_a_bin(name):
    values = draw(name)
    histogram = count(values)
    width = (histogram.high - histogram.low) / BINS
    low, high = percentile_range(histogram, False)
    exact = np.quantile(
        values.astype(np.float64), [LEFT_OUT / 2, 1 - LEFT_OUT / 2], method="inverted_cdf"
    )
    assert min(exact[0], 0) - width <= low <= min(exact[0], 0)
    assert max(exact[1], 0) <= high <= max(exact[1], 0) + width
    limit = percentile_range(histogram, True)[1]
    exact = np.quantile(np.abs(values.astype(np.float64)), 1 - LEFT_OUT, method="inverted_cdf")
    assert exact - 2 * width <= limit <= exact + 2 * width


def test_percentile_leaves_out_lone_outliers():
    values = draw("normal")
    values[0] = 1e3
    assert percentile_range(count(values), False)[1] < 10


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_mse_expects_no_more_error_than_minmax_and_no_grid_finds_less(name, symmetric):
    values = draw(name)
    histogram = count(values)
    chosen = squared_error(values, *mse_range(histogram, symmetric), symmetric)
    low, high = histogram.low, histogram.high
    if symmetric:
        low, high = -histogram.largest, histogram.largest
    assert chosen <= squared_error(values, low, high, symmetric)

    some = values[::8]
    shares = np.linspace(0.02, 1, 50)
    grid = (
        [(s, s) for s in shares]
        if symmetric
        else list(itertools.product(shares[::2], repeat=2))
    )
    if not symmetric and 0 in (low, high):
        grid = [(s, s) for s in shares]
    least = min(grid, key=lambda s: squared_error(some, s[0] * low, s[1] * high, symmetric))
    found = squared_error(values, least[0] * low, least[1] * high, symmetric)
    assert chosen <= 1.01 * found


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.05, 0.4, 1.0])
def test_the_expected_error_is_that_of_the_numbers(name, share, symmetric):
    values = draw(name)
    histogram = count(values)
    low, high = share * histogram.low, share * histogram.high
    if symmetric:
        low, high = -share * histogram.largest, share * histogram.largest
    expected = expected_squared_error(histogram, low, high, symmetric)[0]
    assert expected == pytest.approx(squared_error(values, low, high, symmetric), rel=0.02)


@pytest.mark.parametrize("name", ["normal", "laplace"])
def test_entropy_is_onnx_runtimes_where_zero_is_in_the_middle(name):
    values = draw(name)
    # Its own default has as many levels as bins, and so a single candidate.
    collector = HistogramCollector(
        method="entropy",
        symmetric=True,
        num_bins=BINS,
        num_quantized_bins=256,
        percentile=None,
        scenario=None,
    )
    collector.collect_value({"x": values})
    theirs = float(collector.compute_entropy()["x"][1])
    low, high = entropy_range(count(values), True)
    assert low == -high
    assert high == pytest.approx(theirs, rel=0.05)


def test_entropy_clips_outliers_and_keeps_an_even_distribution():
    histogram = count(draw("outliers"))
    low, high = entropy_range(histogram, False)
    assert high < histogram.high / 3
    assert low > histogram.low / 3
    even = np.linspace(-2, 5, 100_001, dtype=np.float32)
    low, high = entropy_range(count(even), False)
    assert low == pytest.approx(-2, abs=0.1)
    assert high == pytest.approx(5, abs=0.1)
