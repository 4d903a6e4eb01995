from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcn_export.errors import BundleError
from tcn_export.parity.feeds import SignalScale, noise_windows, stress_set
from tcn_export.parity.golden import (
    Feed,
    Golden,
    Reference,
    WindowAnswers,
    golden_from_bytes,
    golden_to_bytes,
)

SCALE = SignalScale(np.array([9.81, 0.0]), np.array([2.0, 0.01]))


def test_stress_set_is_seeded_and_single_precision():
    one, other = (stress_set("x", SCALE, (30,), seed=3) for _ in range(2))
    assert {f.name for f in one} == {
        "normal", "single", "impulses", "constants", "steps", "large", "tiny", "zeros",
    }  # fmt: skip
    for a, b in zip(one, other, strict=True):
        assert a.inputs["x"].dtype == np.float32
        np.testing.assert_array_equal(a.inputs["x"], b.inputs["x"])
    assert {len(f.inputs["x"]) for f in one} >= {1, 2, 4}


def test_stress_set_speaks_the_units_of_the_sensor():
    feeds = {f.name: f.inputs["x"] for f in stress_set("x", SCALE, (4000,), seed=0)}
    np.testing.assert_allclose(feeds["normal"].mean(axis=(0, 2)), SCALE.center, atol=0.1)
    np.testing.assert_allclose(feeds["normal"].std(axis=(0, 2)), SCALE.spread, rtol=0.05)
    assert not feeds["zeros"].any()
    assert (feeds["impulses"][:, 1] > 0.09).sum() == 3


def test_other_lengths_are_asked_too():
    feeds = {f.name: f.inputs["x"] for f in stress_set("x", SCALE, (30, 61, 15), seed=0)}
    assert feeds["length_61"].shape[2] == 61
    assert feeds["length_15"].shape[2] == 15


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_shortest_windows_have_a_stress_set(length):
    for feed in stress_set("x", SCALE, (length,), seed=0):
        assert feed.inputs["x"].shape[2] == length


def test_noise_windows_are_seeded():
    one, other = (noise_windows(SCALE, 20, 5, seed=1) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert (one.shape, one.dtype) == ((5, 2, 20), np.float32)


GOLDEN = Golden(
    (Feed("normal", "stress", {"x": np.ones((2, 1, 3), np.float32)}),),
    {
        "normal": Reference(
            {"y": np.array([[1 / 3]])}, {"y": np.array([[1 / 3]], np.float32)}, {"y": 1e-3}
        )
    },
    ("a", "b"),
    WindowAnswers(answers=np.array([0, 1, 1])),
)


def test_golden_data_survives_its_file():
    again = golden_from_bytes(golden_to_bytes(GOLDEN))
    assert [(f.name, f.kind) for f in again.feeds] == [("normal", "stress")]
    assert again.classes == ("a", "b")
    assert again.references["normal"].float64["y"][0, 0] == 1 / 3
    assert again.references["normal"].float32["y"].dtype == np.float32
    assert again.references["normal"].eager_error("y") == 1e-3
    np.testing.assert_array_equal(again.windows.answers, [0, 1, 1])


def test_golden_data_of_earlier_versions_knows_the_error_of_one_draw():
    drawn_once = Reference(
        GOLDEN.references["normal"].float64, GOLDEN.references["normal"].float32
    )
    golden = Golden(GOLDEN.feeds, {"normal": drawn_once}, ())
    again = golden_from_bytes(golden_to_bytes(golden))
    assert again.references["normal"].eager_error("y") == abs(float(np.float32(1 / 3)) - 1 / 3)


def test_golden_data_of_a_regression_without_windows():
    golden = Golden(GOLDEN.feeds, GOLDEN.references, ())
    again = golden_from_bytes(golden_to_bytes(golden))
    assert (again.classes, again.windows) == ((), None)


FLIPS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4)


@given(flips=FLIPS)
def test_damaged_golden_data_never_ends_in_a_traceback(flips):
    raw = bytearray(golden_to_bytes(GOLDEN))
    for place, bits in flips:
        raw[place % len(raw)] ^= bits
    with contextlib.suppress(BundleError):
        golden_from_bytes(bytes(raw))


@pytest.mark.parametrize("raw", [b"", b"nothing", golden_to_bytes(GOLDEN)[:-40]])
def test_damaged_golden_data_is_an_error(raw):
    with pytest.raises(BundleError, match="is damaged"):
        golden_from_bytes(raw)
