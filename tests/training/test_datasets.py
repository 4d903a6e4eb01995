from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcn_export.data import Dataset, Windows
from tcn_export.errors import DataError, UsageError
from tcn_export.training.configure import NetworkOptions, configure, pose
from tcn_export.training.datasets import (
    forecast_dataset,
    load_archive,
    load_training_data,
    split_validation,
)


def windows(count=60, classes=3, group=None):
    x = np.arange(count, dtype=np.float32)[:, None, None] + np.zeros((1, 2, 5), np.float32)
    return Windows(x, (np.arange(count) % classes).astype(np.int64), group)


@given(groups=st.integers(5, 20), seed=st.integers(0, 100))
def test_no_group_is_on_both_sides(groups, seed):
    group = np.arange(60) % groups
    train, check = split_validation(windows(group=group), 0.2, seed)
    assert not set(train.group) & set(check.group)
    assert sorted([*train.x[:, 0, 0], *check.x[:, 0, 0]]) == list(range(60))
    assert len(check) >= 1


def test_classes_keep_their_shares_without_groups():
    train, check = split_validation(windows(), 0.2, seed=0)
    assert np.bincount(train.y).tolist() == [16, 16, 16]
    assert np.bincount(check.y).tolist() == [4, 4, 4]


def test_split_is_seeded():
    one, same, other = (split_validation(windows(), 0.2, seed)[1].x for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_too_few_groups_are_an_error():
    with pytest.raises(DataError, match="Use --validation 0"):
        split_validation(windows(group=np.zeros(60)), 0.2, seed=0)


def test_fewer_groups_than_folds_give_one_of_them_to_validation():
    train, check = split_validation(windows(group=np.arange(60) % 3), 0.2, seed=0)
    assert (len(train), len(check)) == (40, 20)


def test_archive_set_comes_with_its_official_split():
    dataset = load_archive("BasicMotions")
    assert (dataset.train.x.shape, dataset.test.x.shape) == ((40, 6, 100), (40, 6, 100))
    assert dataset.class_names == ("badminton", "running", "standing", "walking")
    assert np.bincount(dataset.train.y).tolist() == [10, 10, 10, 10]


def test_archive_sets_that_cannot_be_used_are_named():
    with pytest.raises(DataError, match="unequal length"):
        load_archive("JapaneseVowels")
    with pytest.raises(DataError, match="NoSuchSet is neither a file nor a data set"):
        load_archive("NoSuchSet")


def test_forecast_sees_the_past_and_tells_the_future():
    series = np.stack([np.arange(50), 100 + np.arange(50)])[None].astype(np.float32)
    dataset = forecast_dataset(Dataset("s", Windows(series), None), length=10, horizon=3)
    x, y = dataset.train.x, dataset.train.y
    assert (x.shape, y.shape) == ((38, 2, 10), (38, 6))
    np.testing.assert_array_equal(x[7, 0], np.arange(7, 17))
    np.testing.assert_array_equal(y[7], [17, 18, 19, 117, 118, 119])
    assert len(np.unique(dataset.train.group)) == 10
    assert (np.diff(dataset.train.group) >= 0).all()  # blocks of neighbours


def test_series_too_short_for_a_forecast_is_an_error():
    short = Dataset("s", Windows(np.zeros((1, 1, 12), np.float32)), None)
    with pytest.raises(DataError, match="a series of 12 steps is too short"):
        forecast_dataset(short, length=10, horizon=3)


def test_forecast_needs_both_lengths_and_training_needs_labels(tmp_path):
    np.savez(tmp_path / "d.npz", x_train=np.zeros((4, 1, 20), np.float32))
    with pytest.raises(UsageError, match="needs both"):
        load_training_data(str(tmp_path / "d.npz"), 10, None)
    with pytest.raises(DataError, match="holds no labels to train on"):
        load_training_data(str(tmp_path / "d.npz"), None, None)
    assert load_training_data(str(tmp_path / "d.npz"), 10, 2).train.y.shape == (36, 2)


@pytest.mark.parametrize(
    ("y", "head", "message"),
    [
        (np.zeros((4, 20), np.int64), "last", "the head `last` needs one per window"),
        (np.zeros(4, np.int64), "every", "the head `every` needs one per step"),
        (np.zeros((4, 9), np.int64), "every", "needs one per step"),
        (np.zeros(4, np.float32), None, r"a regression needs \(windows, targets\)"),
        (np.zeros((4, 2), np.float32), "every", "the head `last` or `mean`"),
        (np.zeros(4, np.int64), None, "holds a single class"),
    ],
)
def test_labels_that_do_not_fit_the_head_are_an_error(y, head, message):
    dataset = Dataset("d", Windows(np.zeros((4, 2, 20), np.float32), y), None)
    with pytest.raises(DataError, match=message):
        pose(dataset, head)


def test_options_become_a_configuration():
    problem = pose(Dataset("d", windows(), None), None)
    config = configure(problem, NetworkOptions(widths=(16,), levels=4, kernel=5, dropout=0.0))
    assert (config.widths, config.dilations) == ((16,) * 4, (1, 2, 4, 8))
    config = configure(problem, NetworkOptions(widths=(8, 12, 16), dilations=(1, 3, 9)))
    assert (config.widths, config.dilations) == ((8, 12, 16), (1, 3, 9))
    config = configure(problem, NetworkOptions(arch="resnet1d", widths=(8, 12), levels=2))
    assert (config.strides, config.blocks) == ((1, 2), 2)
