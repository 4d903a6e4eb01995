from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from tcn_export.scores import classification_scores, mean_squared_error

NAMES = ("a", "b", "c", "d")
LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@given(pairs=LABELS)
def test_scores_are_those_of_scikit_learn(pairs):
    truth, answer = np.array(pairs).T
    score = classification_scores(truth, answer, NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = precision_recall_fscore_support(
            truth, answer, labels=range(4), zero_division=np.nan
        )
    for name, values in zip(
        ("precision", "sensitivity", "support"), expected[::1][:2] + expected[3:], strict=True
    ):
        actual = [getattr(row, name) for row in score.classes]
        np.testing.assert_allclose(actual, values)
    seen = sorted({*truth, *answer})
    f1 = precision_recall_fscore_support(truth, answer, labels=seen, zero_division=0)[2]
    np.testing.assert_allclose([score.classes[k].f1 for k in seen], f1)
    assert score.macro_f1 == pytest.approx(f1.mean())
    assert score.accuracy == pytest.approx(accuracy_score(truth, answer))


def test_squared_error_is_summed_in_double_precision():
    truth, answer = np.full(3, 1e8, np.float32), np.full(3, 1e8 + 8, np.float32)
    assert mean_squared_error(truth, answer) == 64.0
