from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from tcn_export.parity.bounds import clopper_pearson_upper, paired_upper_bound
from tcn_export.parity.statistics import accuracy_loss, relative_rms_loss


@given(trials=st.integers(1, 3000), share=st.floats(0, 1))
def test_clopper_pearson_is_the_beta_quantile(trials, share):
    successes = int(share * trials)
    expected = (
        1.0 if successes == trials else beta.ppf(0.95, successes + 1, trials - successes)
    )
    assert clopper_pearson_upper(successes, trials) == pytest.approx(expected, abs=1e-9)


def test_clopper_pearson_holds_for_many_windows():
    assert clopper_pearson_upper(450, 49692) == pytest.approx(
        beta.ppf(0.95, 451, 49692 - 450), abs=1e-10
    )


def test_bound_without_any_change_is_exact():
    assert paired_upper_bound(0, 0, 40) == pytest.approx(1 - 0.05 ** (1 / 40))
    assert 0.071 < paired_upper_bound(0, 0, 40) < 0.073


@given(windows=st.integers(1, 400), spoiled=st.integers(0, 400), mended=st.integers(0, 400))
def test_bound_lies_above_what_was_seen_and_within_reason(windows, spoiled, mended):
    if spoiled + mended > windows:
        return
    upper = paired_upper_bound(spoiled, mended, windows)
    assert (spoiled - mended) / windows <= upper <= 1


def test_bound_grows_with_losses_and_shrinks_with_windows():
    bounds = [paired_upper_bound(k, 2, 300) for k in range(20)]
    assert bounds == sorted(bounds)
    assert paired_upper_bound(1, 0, 100) > paired_upper_bound(10, 0, 1000)


@pytest.mark.parametrize(
    ("windows", "spoil", "mend"),
    [
        (40, 0.05, 0.02),
        (100, 0.01, 0.0),
        (300, 0.01, 0.01),
        (3000, 0.004, 0.003),
        (1000, 0.03, 0.03),
    ],
)
def test_bound_covers_the_true_loss_in_at_least_95_of_100_samples(windows, spoil, mend):
    rng = np.random.default_rng(0)
    cells = rng.multinomial(windows, [spoil, mend, 1 - spoil - mend], size=4000)
    pairs, counts = np.unique(cells[:, :2], axis=0, return_counts=True)
    covered = sum(
        n
        for (lost, gained), n in zip(pairs, counts, strict=True)
        if paired_upper_bound(int(lost), int(gained), windows) >= spoil - mend
    )
    assert covered / 4000 >= 0.94  # 0.95 less the sampling error of 4000 draws


def test_accuracy_loss_counts_what_changed():
    truth = np.array([0, 1, 2, 0, 1])
    before, after = np.array([0, 1, 2, 1, 1]), np.array([0, 2, 2, 0, 0])
    loss = accuracy_loss(truth, before, after)
    assert (loss.reference, loss.actual, loss.windows) == (0.8, 0.6, 5)
    assert loss.lost == pytest.approx(20)
    assert loss.note == "2 right answers lost, 1 gained, 3 changed"


def test_answers_per_step_are_bounded_by_the_number_of_windows():
    truth = np.zeros((40, 100), np.int64)
    loss = accuracy_loss(truth, truth, truth)
    assert loss.upper == pytest.approx(100 * (1 - 0.05 ** (1 / 40)))


def test_relative_rms_loss_is_in_deviations_of_the_targets():
    rng = np.random.default_rng(0)
    targets = 7 * rng.standard_normal((500, 4))
    before = np.full(500, 0.25 * targets.var())
    after = np.full(500, 0.36 * targets.var())
    loss = relative_rms_loss(targets, before, after)
    assert loss.lost == pytest.approx(10)
    assert loss.upper == pytest.approx(10)  # the same on every window: nothing is uncertain
    assert (loss.reference, loss.actual) == (pytest.approx(0.5), pytest.approx(0.6))
    after = after + targets.var() * 0.1 * rng.standard_normal(500)
    assert relative_rms_loss(targets, before, after).upper > loss.lost


def test_one_window_bounds_no_regression():
    loss = relative_rms_loss(np.array([[0.0, 2.0]]), np.array([0.1]), np.array([0.1]))
    assert loss.upper == float("inf")
