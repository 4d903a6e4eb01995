"""Data sets in npz files: read without pickles, every array checked, and written.

Arrays: ``x_train``, ``y_train`` (training, calibration), ``x_test``, ``y_test`` (parity); or
``x``, ``y`` alone, which are divided between both. ``x`` has the shape (windows, channels,
length); integer storage is decoded by ``x_scale`` (one factor per channel). Optional:
``class_names``, ``channel_names``, ``fs_hz``, and a group per training window
(``group_train``, ``subject_train`` or ``record_train``).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcn_export.archive import ArchiveError, ObjectArrayError, read_arrays
from tcn_export.data import Dataset, Windows, are_names, check_labels
from tcn_export.errors import DataError
from tcn_export.files import write_bytes

MOST_CLASSES = 100_000
GROUP_ARRAYS = ("group", "subject", "record")


def load_dataset(path: Path) -> Dataset:
    """Read an npz file of windows.

    Raises:
        DataError: The file is not such a file, or holds values that nobody can use; the
            message names the array.
    """
    arrays = _read_arrays(path)
    scale = _scale(path, arrays)
    named = {
        "train": _windows(path, arrays, "_train", scale),
        "test": _windows(path, arrays, "_test", scale),
        "all": _windows(path, arrays, "", scale),
    }
    is_whole = named["train"] is None and named["test"] is None
    train = named["train"] or named["all"]
    if train is None and named["test"] is None:
        raise DataError(
            f"{path} holds no windows. Expected an array `x_train`, `x_test` or `x` of the "
            "shape (windows, channels, length); found "
            f"{', '.join(sorted(arrays)) or 'nothing'}."
        )
    dataset = Dataset(
        path.stem,
        train,
        named["test"],
        _names(path, arrays, "class_names"),
        _names(path, arrays, "channel_names"),
        _sample_rate(path, arrays),
        is_whole,
    )
    _check_agreement(path, dataset)
    return dataset


def save_dataset(path: Path, dataset: Dataset) -> None:
    """Write a dataset as a compressed npz file that `load_dataset` reads back equal.

    Raises:
        OutputError: The path cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {}
    train = "" if dataset.is_whole else "_train"
    for suffix, windows in ((train, dataset.train), ("_test", dataset.test)):
        if windows is not None:
            arrays["x" + suffix] = windows.x
            if windows.y is not None:
                arrays["y" + suffix] = windows.y
            if windows.group is not None:
                arrays["group" + suffix] = windows.group
    for name, names in (
        ("class_names", dataset.class_names),
        ("channel_names", dataset.channel_names),
    ):
        if names:
            arrays[name] = np.array(names)
    if dataset.sample_rate_hz is not None:
        arrays["fs_hz"] = np.float64(dataset.sample_rate_hz)[None]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            return read_arrays(file, without_prefix="x_val")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist. Expected an .npz file of windows.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except ObjectArrayError as error:
        raise DataError(
            f"{path} holds Python objects, which are never loaded: they could run code. Save "
            "plain numeric arrays: np.savez(file, x_train=array.astype('float32'), ...)."
        ) from error
    except ArchiveError as error:
        raise DataError(
            f"{path} is not a readable .npz archive: {error}. Expected what np.savez writes, "
            "with the windows in `x_train`."
        ) from error


def _scale(path: Path, arrays: dict[str, NDArray[Any]]) -> NDArray[np.float32] | None:
    if "x_scale" not in arrays:
        return None
    scale = np.atleast_1d(arrays["x_scale"])
    if scale.ndim != 1 or scale.dtype.kind not in "fiu" or not np.all(np.isfinite(scale)):
        raise DataError(
            f"`x_scale` in {path} must hold one finite number per channel; "
            f"found {scale.dtype} of the shape {scale.shape}."
        )
    return scale.astype(np.float32)


def _windows(
    path: Path, arrays: dict[str, NDArray[Any]], suffix: str, scale: NDArray[np.float32] | None
) -> Windows | None:
    name = "x" + suffix
    if name not in arrays:
        return None
    x = arrays[name]
    if x.ndim != 3 or x.dtype.kind not in "fiu":
        raise DataError(
            f"`{name}` in {path} must hold numbers of the shape (windows, channels, length); "
            f"found {x.dtype} of the shape {x.shape}."
        )
    if 0 in x.shape:
        raise DataError(f"`{name}` in {path} is empty: its shape is {x.shape}.")
    with np.errstate(over="ignore"):  # infinite values are told of below
        decoded = x.astype(np.float32)
    if x.dtype.kind in "iu" and scale is not None:
        if len(scale) != x.shape[1]:
            raise DataError(
                f"`x_scale` in {path} has {len(scale)} factors, but `{name}` has {x.shape[1]} "
                "channels; they must be equal."
            )
        with np.errstate(over="ignore"):
            decoded *= scale[None, :, None]
    _check_finite(path, name, decoded)
    y = _labels(path, "y" + suffix, arrays.get("y" + suffix), len(x))
    group = next((arrays[g + suffix] for g in GROUP_ARRAYS if g + suffix in arrays), None)
    if group is not None and group.shape != (len(x),):
        raise DataError(
            f"the groups of `{name}` in {path} must be one per window, ({len(x)},); "
            f"found the shape {group.shape}."
        )
    return Windows(decoded, y, group)


def _labels(
    path: Path, name: str, y: NDArray[Any] | None, windows: int
) -> NDArray[Any] | None:
    if y is None:
        return None
    if y.ndim == 0 or len(y) != windows:
        raise DataError(
            f"`{name}` in {path} has the shape {y.shape}, but there are {windows} windows; "
            "the first axis must be equal."
        )
    if 0 in y.shape:
        raise DataError(f"`{name}` in {path} is empty: its shape is {y.shape}.")
    if y.dtype.kind in "iub":
        if y.max() > MOST_CLASSES:
            raise DataError(
                f"`{name}` in {path} holds the label {y.max()}. Labels are class indices from "
                "0 on: map yours to 0, 1, 2 ... first."
            )
        labels = y.astype(np.int64)
        if labels.min() < 0:
            raise DataError(
                f"`{name}` in {path} holds the label {labels.min()}. Labels are class indices "
                "from 0 on: map yours to 0, 1, 2 ... first."
            )
        return labels
    if y.dtype.kind == "f":
        targets = y.astype(np.float32)
        _check_finite(path, name, targets)
        return targets
    raise DataError(
        f"`{name}` in {path} is of the type {y.dtype}. Expected integer class indices, or "
        "floating targets for regression."
    )


def _check_finite(path: Path, name: str, array: NDArray[np.float32]) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"`{name}` in {path} holds {int(bad.sum())} values that are NaN or infinite, the "
            f"first at index {first}. Remove or fill them first."
        )


def _check_agreement(path: Path, dataset: Dataset) -> None:
    train, test = dataset.train, dataset.test
    if train is not None and test is not None:
        if train.x.shape[1] != test.x.shape[1]:
            raise DataError(
                f"`x_train` in {path} has {train.x.shape[1]} channels and `x_test` has "
                f"{test.x.shape[1]}; they must be equal."
            )
        if train.y is not None and test.y is not None and train.y.dtype != test.y.dtype:
            raise DataError(
                f"`y_train` in {path} is {train.y.dtype} and `y_test` is {test.y.dtype}: one "
                "holds class indices, the other targets."
            )
    for windows, name in ((train, "train"), (test, "test")):
        if windows is not None and windows.is_classification and dataset.class_names:
            check_labels(windows, len(dataset.class_names), f"the {name} part of {path}")


def _names(path: Path, arrays: dict[str, NDArray[Any]], name: str) -> tuple[str, ...]:
    names = (
        tuple(str(n) for n in np.atleast_1d(arrays[name]).ravel()) if name in arrays else ()
    )
    if not are_names(names):
        raise DataError(
            f"`{name}` in {path} must hold different, printable names; found "
            f"{', '.join(map(repr, names[:8]))}."
        )
    return names


def _sample_rate(path: Path, arrays: dict[str, NDArray[Any]]) -> float | None:
    if "fs_hz" not in arrays:
        return None
    rate = np.ravel(arrays["fs_hz"])
    if rate.size != 1 or rate.dtype.kind not in "fiu" or not 0 < float(rate[0]) < np.inf:
        raise DataError(f"`fs_hz` in {path} must be one positive number; found {rate}.")
    return float(rate[0])
