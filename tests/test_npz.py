from __future__ import annotations

import contextlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcn_export.data import Windows
from tcn_export.errors import DataError
from tcn_export.npz import load_dataset, save_dataset

X = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
Y = np.array([0, 1])


def write(tmp_path, **arrays):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


def test_integer_storage_is_decoded_by_its_scale(tmp_path):
    stored = X.astype(np.int16)
    scale = np.array([1.0, 0.5, 0.25], np.float32)
    dataset = load_dataset(write(tmp_path, x_train=stored, y_train=Y, x_scale=scale))
    np.testing.assert_array_equal(dataset.train.x, X * scale[:, None])
    assert dataset.train.x.dtype == np.float32


def test_floating_storage_is_taken_as_it_is_even_beside_a_scale(tmp_path):
    dataset = load_dataset(write(tmp_path, x_train=X, y_train=Y, x_scale=np.ones(3) * 9))
    np.testing.assert_array_equal(dataset.train.x, X)


def test_what_was_saved_is_loaded_equal(tmp_path):
    path = write(
        tmp_path,
        x_train=X,
        y_train=Y,
        x_test=X + 1,
        y_test=Y,
        subject_train=np.array([3, 4]),
        class_names=np.array(["a", "b"]),
        fs_hz=50.0,
    )
    first = load_dataset(path)
    save_dataset(tmp_path / "again.npz", first)
    second = load_dataset(tmp_path / "again.npz")
    for one, other in ((first.train, second.train), (first.test, second.test)):
        assert one.digest() == other.digest()
    assert (second.class_names, second.sample_rate_hz) == (("a", "b"), 50.0)
    np.testing.assert_array_equal(second.train.group, [3, 4])


def test_calibration_never_sees_what_parity_is_judged_on(tmp_path):
    x = np.arange(11, dtype=np.float32)[:, None, None]
    alone = load_dataset(write(tmp_path, x=x))
    calibration, parity = alone.calibration.x.ravel(), alone.parity.x.ravel()
    assert sorted([*calibration, *parity]) == list(range(11))
    split = load_dataset(write(tmp_path, x_train=x, x_test=x + 100))
    assert split.calibration.x.max() < 100 <= split.parity.x.min()
    with pytest.raises(DataError, match="Calibration never sees test windows"):
        _ = load_dataset(write(tmp_path, x_test=x)).calibration
    with pytest.raises(DataError, match="no test windows to judge on"):
        _ = load_dataset(write(tmp_path, x_train=x)).parity
    with pytest.raises(DataError, match="holds a single window"):
        _ = load_dataset(write(tmp_path, x=x[:1])).calibration


def test_windows_that_stand_for_both_parts_still_do_after_saving(tmp_path):
    whole = load_dataset(write(tmp_path, x=np.repeat(X, 6, axis=0)))
    save_dataset(tmp_path / "again.npz", whole)
    again = load_dataset(tmp_path / "again.npz")
    assert again.parity.digest() == whole.parity.digest()
    assert again.calibration.digest() == whole.calibration.digest()


def test_spread_takes_windows_from_end_to_end():
    windows = Windows(np.arange(100, dtype=np.float32)[:, None, None])
    assert windows.spread(4).x.ravel().tolist() == [0, 33, 66, 99]
    assert len(windows.spread(1000)) == 100


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.array([X, None], dtype=object)}, "holds Python objects"),
        ({"x_train": X[0]}, "`x_train` in .* must hold numbers of the shape"),
        ({"x_train": X.astype(complex)}, "must hold numbers"),
        ({"x_train": np.array([["a"]])}, "must hold numbers"),
        ({"x_train": X[:0]}, r"`x_train` in .* is empty: its shape is \(0, 3, 4\)"),
        ({"x_train": np.where(X == 5, np.nan, X)}, r"holds 1 values .* at index \(0, 1, 1\)"),
        ({"x_test": np.where(X == 5, np.inf, X)}, "`x_test` .* NaN or infinite"),
        ({"x_train": X, "y_train": np.array([0, 1, 2])}, "there are 2 windows"),
        ({"x_train": X, "y_train": np.array([0, -1])}, "holds the label -1"),
        ({"x_train": X, "y_train": np.zeros((2, 0), int)}, r"`y_train` in .* is empty"),
        ({"x_train": X, "y_train": np.array(["a", "b"])}, "of the type <U1"),
        ({"x_train": X, "y_train": np.array([0.5, np.nan])}, "`y_train` .* NaN"),
        (
            {"x_train": X, "y_train": np.array([0, 2]), "class_names": np.array(["a", "b"])},
            "holds the label 2, but there are 2 classes",
        ),
        ({"x_train": X.astype(np.int16), "x_scale": np.ones(2)}, "has 2 factors"),
        ({"x_train": X, "x_scale": np.array([1, np.nan, 1])}, "one finite number per channel"),
        ({"x_train": X, "x_test": X[:, :2]}, "3 channels and `x_test` has 2"),
        (
            {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y / 2},
            "one holds class indices",
        ),
        ({"x_train": X, "fs_hz": -1.0}, "`fs_hz` in .* must be one positive number"),
        ({"x_train": X, "subject_train": np.array([1])}, "must be one per window"),
        (
            {"x_train": X, "y_train": np.array([0, 2**63], np.uint64)},
            "label 9223372036854775808",
        ),
        (
            {"x_train": X, "class_names": np.array(["a", "a"])},
            "must hold different, printable",
        ),
        (
            {"x_train": X, "class_names": np.array(["a", "\x1b[1m"])},
            "must hold different, prin",
        ),
        ({"x_train": np.where(X == 5, 1e300, X.astype(float))}, "NaN or infinite"),
        ({"signal": X}, "holds no windows. Expected .*; found signal"),
    ],
)
def test_unusable_arrays_are_named(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        load_dataset(write(tmp_path, **arrays))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04cut short", b"\x80\x04N."])
def test_files_that_are_no_archives_are_refused(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data\.npz is not a readable \.npz archive"):
        load_dataset(path)


def test_single_arrays_and_missing_files_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(DataError, match=r"single \.npy array"):
        load_dataset(tmp_path / "x.npy")
    with pytest.raises(DataError, match="does not exist"):
        load_dataset(tmp_path / "none.npz")


@pytest.fixture(scope="module")
def archive():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x_train=X, y_train=Y, x_test=X, y_test=Y)
    return buffer.getvalue()


FLIPS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4)


@given(flips=FLIPS)
def test_damaged_archives_never_end_in_a_traceback(archive, tmp_path_factory, flips):
    raw = bytearray(archive)
    for place, bits in flips:
        raw[place % len(raw)] ^= bits
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(raw)
    with contextlib.suppress(DataError):
        load_dataset(path)


@pytest.mark.parametrize(
    "header",
    [b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,", b"\0{}", b"(" * 300,
     b"{'descr': ('<f4',), 'fortran_order': False, 'shape': (2,)}", b"{}"],
)  # fmt: skip
def test_damaged_headers_are_an_error(tmp_path, header):
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        size = len(header).to_bytes(2, "little")
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + size + header + bytes(64))
    with pytest.raises(DataError, match=r"is not a readable \.npz archive"):
        load_dataset(tmp_path / "data.npz")


def test_part_that_is_no_array_is_an_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x_test.npy", b"hello")
    with pytest.raises(DataError, match=r"x_test.* is no array"):
        load_dataset(tmp_path / "data.npz")


def test_array_larger_than_the_memory_is_an_error(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "data.npz", "w") as archive,
        archive.open("x.npy", "w") as file,
    ):
        header = {"descr": "<f4", "fortran_order": False, "shape": (2**42, 2, 2)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(DataError, match="larger than the memory"):
        load_dataset(tmp_path / "data.npz")
