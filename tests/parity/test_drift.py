"""Noise that grows with time is found, and a signal that is hard at its end is not blamed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integer_streams import answers, in_integers, odd_graph, ranges_of, stream_of
from odd_streams import CHANNELS
from support import NO_SHRINKING
from tcn_export.parity.drift import EACH, LAST, begin_anew_at, judge_drift, measure_drift
from tcn_export.parity.tolerance import INT8_LABELLED_SQNR_DB, SAME_SQNR_DB
from tcn_export.quantize.dialects import ORT_X86_VNNI

STEPS, TENTH = 5000, 500


def signal(seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((1, 6, STEPS)).cumsum(axis=2) / 30


def noise(seed=1):
    return np.random.default_rng(seed).standard_normal((1, 6, STEPS)) * 0.05


def judged(actual, oracle, anew=None, least=20.0):
    again = actual if anew is None else anew
    drift = measure_drift(actual, oracle, again[..., -2 * TENTH :], 2)
    return {row.metric: row.status for row in judge_drift("long", "logits", drift, least)}


PASSED = {EACH: "pass", LAST: "pass"}


def test_noise_that_stays_passes():
    y = signal()
    assert judged(y + noise(), y) == PASSED


def test_two_draws_of_the_same_noise_pass():
    y = signal()
    assert judged(y + noise(1), y, y + noise(2)) == PASSED


def test_a_stream_without_any_noise_passes():
    y = signal()
    assert judged(y, y) == PASSED


def test_noise_that_grows_fails_though_every_tenth_is_within_the_class():
    y, n = signal(), noise()
    growing = y + n * np.linspace(1, 1.3, STEPS)
    assert judged(growing, y, y + n) == {EACH: "pass", LAST: "fail"}


def test_an_offset_that_adds_up_fails():
    y, n = signal(), noise()
    assert judged(y + n + np.linspace(0, 1, STEPS), y, y + n)[LAST] == "fail"


def test_a_signal_that_is_hard_at_its_end_is_not_called_drift():
    y, n = signal(), noise()
    n[..., -TENTH:] *= 2
    assert judged(y + n, y, y + n) == PASSED


def test_one_tenth_beyond_the_class_fails_wherever_it_is():
    y, n = signal(), noise()
    n[..., 3 * TENTH : 4 * TENTH] *= 100
    assert judged(y + n, y) == {EACH: "fail", LAST: "pass"}


def test_a_silent_tenth_is_held_against_the_usual_power_of_the_signal():
    y = signal()
    y[..., 2 * TENTH : 3 * TENTH] = 0
    assert judged(y + noise(), y) == PASSED


@pytest.mark.parametrize(
    "broken",
    [
        np.zeros_like,
        lambda y: 2 * y,
        lambda y: y[:, ::-1],
        lambda y: np.where(np.arange(STEPS) > STEPS - 50, np.nan, y),
    ],
    ids=["zeros", "twice", "swapped", "nan"],
)
def test_answers_that_are_wrong_fail(broken):
    y = signal()
    assert judged(broken(y), y, least=INT8_LABELLED_SQNR_DB)[EACH] == "fail"


@given(fall=st.floats(0, 6), seed=st.integers(0, 99))
def test_the_last_tenth_may_fall_by_what_is_allowed_to_kernels_and_no_more(fall, seed):
    y, n = signal(seed), noise(seed)
    more = y + n * 10 ** (fall / 20)
    expected = "pass" if fall <= SAME_SQNR_DB else "fail"
    if abs(fall - SAME_SQNR_DB) > 1e-6:
        assert judged(more, y, y + n)[LAST] == expected


@given(
    kind=st.sampled_from(["Gated", "LooksAhead", "Delayed"]),
    hop=st.sampled_from([1, 4, 16]),
    hops=st.integers(10, 14),
)
@settings(max_examples=8, phases=NO_SHRINKING)
def test_a_stream_that_begins_anew_answers_the_last_tenth_to_the_bit(kind, hop, hops):
    steps = hops * 16
    graph = odd_graph(kind)
    x = np.random.default_rng(0).standard_normal((2, CHANNELS, steps)).astype(np.float32)
    ranges = ranges_of(stream_of(graph, 16), x, ORT_X86_VNNI)
    stream = in_integers(stream_of(graph, hop), ranges, ORT_X86_VNNI)
    start = begin_anew_at(steps, 7, hop)
    assert start % hop == 0
    assert start > 0 or hop == 16
    whole, anew = answers(stream, x), answers(stream, x[..., start:])
    drift = measure_drift(whole, whole + 1.0, anew, 2)
    assert drift.begun_anew == drift.tenths[-1]
    last = whole.shape[-1] // 10
    assert np.array_equal(anew[..., -last:], whole[..., -last:])


def test_too_few_steps_are_refused():
    y = np.ones((1, 2, 9))
    with pytest.raises(ValueError, match="at least 10 steps"):
        measure_drift(y, y, y, 2)
    y = np.ones((1, 2, 40))
    with pytest.raises(ValueError, match="the last tenth has 4"):
        measure_drift(y, y, y[..., :3], 2)


def test_what_the_manifest_gets_is_json():
    y = signal()
    told = measure_drift(y, y, y, 2).to_json()
    assert told["sqnr_db_of_tenths"] == ["inf"] * 10
