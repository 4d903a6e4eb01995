"""What a network is trained on: npz files, UCR and UEA sets, windows of a series."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcn_export.data import Dataset, Windows
from tcn_export.errors import DataError, UsageError
from tcn_export.files import check_free
from tcn_export.npz import load_dataset, save_dataset
from tcn_export.training.interrupted import is_main_process

FORECAST_BLOCKS = 10
"""A series is cut into so many blocks of windows; validation takes whole blocks."""


def load_training_data(data: str, length: int | None, horizon: int | None) -> Dataset:
    """Load what ``data`` names.

    Args:
        data: Path of an npz file, or the name of a UCR or UEA set that aeon knows.
        length: Steps of the windows of a forecast.
        horizon: Steps to forecast; cuts windows from the series in ``x_train`` and ``x_test``.

    Raises:
        DataError: The file or set cannot be used for training.
        UsageError: One of ``length`` and ``horizon`` is missing.
    """
    path = Path(data)
    dataset = (
        load_dataset(path)
        if path.suffix == ".npz" or os.path.exists(path)
        else load_archive(data)
    )
    if (length is None) != (horizon is None):
        raise UsageError(
            "a forecast needs both --length (steps seen) and --horizon (steps told)."
        )
    if length is not None and horizon is not None:
        dataset = forecast_dataset(dataset, length, horizon)
    if dataset.train is None or dataset.train.y is None:
        raise DataError(
            f"{data} holds no labels to train on. Expected `y_train` beside `x_train`; for a "
            "forecast of the signal itself give --length and --horizon."
        )
    return dataset


def keep_windows(
    dataset: Dataset, data: str, path: Path, overwrite: bool, resume: bool
) -> None:
    """Write the windows of a training for the export.

    Args:
        dataset: The windows.
        data: What they were loaded from; never replaced.
        path: The npz file.
        overwrite: Replace an existing file.
        resume: The run goes on; then a file that was written before it stopped stays.

    Raises:
        UsageError: The file is the one that the windows come from.
        OutputError: It exists, or cannot be written.
    """
    if not is_main_process():
        return  # the helpers of a run on several devices would meet the file of the first
    if os.path.exists(path) and os.path.exists(data) and path.samefile(data):
        raise UsageError(f"{path} is the data itself. Name another file with --save-data.")
    if resume and os.path.isfile(path):
        return
    check_free(path, overwrite)
    save_dataset(path, dataset)


def load_archive(name: str) -> Dataset:
    """Load a set of the UCR or UEA archive through aeon, with its official split.

    Some sets lie inside aeon (BasicMotions, GunPoint, ItalyPowerDemand ...); it downloads
    others.

    Raises:
        DataError: Unknown name, no network, or windows of unequal length.
    """
    from aeon.datasets import load_classification

    parts = []
    for split in ("train", "test"):
        try:
            x, y = load_classification(name, split=split)
        except (ValueError, OSError) as error:
            raise DataError(
                f"{name} is neither a file nor a data set that can be loaded: "
                f"{str(error).splitlines()[0]}. Expected an .npz file, or the name of a UCR "
                "or UEA set such as BasicMotions or GunPoint."
            ) from error
        if isinstance(x, list):
            raise DataError(
                f"{name} has windows of unequal length, which no fixed window fits. Pad or "
                "cut them to one length and save them as .npz."
            )
        parts.append((x.astype(np.float32), y))
    names = np.unique(np.concatenate([y for _, y in parts]))
    train, test = (Windows(x, np.searchsorted(names, y).astype(np.int64)) for x, y in parts)
    return Dataset(name, train, test, tuple(map(str, names)))


def forecast_dataset(dataset: Dataset, length: int, horizon: int) -> Dataset:
    """Cut every series into windows of ``length`` steps, with the next ``horizon`` as targets.

    A target is flat, (channels * horizon,): the whole future of the first channel first.
    """

    def cut(windows: Windows | None) -> Windows | None:
        return None if windows is None else _forecast_windows(windows.x, length, horizon)

    return Dataset(
        dataset.name,
        cut(dataset.train),
        cut(dataset.test),
        (),
        dataset.channel_names,
        dataset.sample_rate_hz,
        dataset.is_whole,
    )


def _forecast_windows(series: NDArray[np.float32], length: int, horizon: int) -> Windows:
    whole = length + horizon
    if series.shape[2] < whole:
        raise DataError(
            f"a series of {series.shape[2]} steps is too short for windows of {length} steps "
            f"and a horizon of {horizon}."
        )
    views = np.lib.stride_tricks.sliding_window_view(series, whole, axis=2)
    per_series = views.shape[2]  # (series, channels, windows, steps)
    flat = np.ascontiguousarray(views.transpose(0, 2, 1, 3)).reshape(
        -1, series.shape[1], whole
    )
    block = np.arange(per_series) * FORECAST_BLOCKS // per_series
    group = (np.arange(len(series))[:, None] * FORECAST_BLOCKS + block).ravel()
    targets = flat[:, :, length:].reshape(len(flat), -1)
    return Windows(np.ascontiguousarray(flat[:, :, :length]), targets, group)


def split_validation(windows: Windows, fraction: float, seed: int) -> tuple[Windows, Windows]:
    """Split training windows in two; no group is on both sides, classes keep their shares.

    The share is the nearest that folds can give: a half, a third, a quarter ...

    Raises:
        DataError: Too few groups or windows to split.
    """
    from sklearn.model_selection import (
        GroupKFold,
        KFold,
        StratifiedGroupKFold,
        StratifiedKFold,
    )

    folds = max(2, round(1 / fraction))
    if windows.group is not None:
        folds = min(folds, max(2, len(np.unique(windows.group))))
    labels = windows.y if windows.is_classification and windows.y is not None else None
    if labels is not None and labels.ndim > 1:
        labels = None  # labels per step have no one class to stratify by
    grouped, stratified = windows.group is not None, labels is not None
    splitter = {
        (True, True): StratifiedGroupKFold,
        (True, False): GroupKFold,
        (False, True): StratifiedKFold,
        (False, False): KFold,
    }[grouped, stratified](n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer windows than folds is missing from some folds; that is all right.
        warnings.simplefilter("ignore", UserWarning)
        try:
            train, validation = next(splitter.split(windows.x[:, 0, 0], labels, windows.group))
        except ValueError as error:
            raise DataError(
                f"the {len(windows)} training windows cannot be split for validation: {error} "
                "Use --validation 0 to train on all of them."
            ) from error
    return windows.take(train), windows.take(validation)
