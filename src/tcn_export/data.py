"""Windows of a signal with their labels or targets, and what a data set says about them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcn_export.errors import DataError

if TYPE_CHECKING:
    from tcn_export.graph import TensorSpec

Array = NDArray[Any]

BATCH_WINDOWS = 256
"""Windows that are computed at once where there are many."""

CALIBRATION_STRIDE = 5
"""Of a file with ``x`` alone every fifth window calibrates; the others are left for parity."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Equally long windows of one signal.

    Attributes:
        x: float32, (windows, channels, length), in the sensor's own units.
        y: int64 class indices, (windows,) or (windows, length); or float32 targets, (windows,
            ...); or None where the file has none.
        group: Who or what a window was recorded from, (windows,); windows of one group are
            never split between training and validation.
    """

    x: NDArray[np.float32]
    y: NDArray[Any] | None = None
    group: NDArray[Any] | None = None

    def __len__(self) -> int:
        """The number of windows."""
        return len(self.x)

    def take(self, index: NDArray[np.integer] | slice) -> Windows:
        """The windows at ``index``."""
        y = None if self.y is None else self.y[index]
        return Windows(self.x[index], y, None if self.group is None else self.group[index])

    def spread(self, most: int) -> Windows:
        """At most ``most`` windows, evenly spaced, so that sorted files lose no class."""
        if len(self) <= most:
            return self
        return self.take(np.linspace(0, len(self) - 1, most).round().astype(np.int64))

    def for_stream(self, hop: int, answer: TensorSpec, unreached: int) -> Windows:
        """What a stream answers to: whole hops, and of labels for every step those it reaches.

        Args:
            hop: Steps that it takes at a time.
            answer: What it answers to a hop.
            unreached: How many of the last answers to a signal come only after its end.

        Raises:
            DataError: There is less than a hop, or not a label for every answer.
        """
        steps = self.x.shape[2] - self.x.shape[2] % hop
        if not steps:
            raise DataError(
                f"the windows have {self.x.shape[2]} steps, and a hop has {hop}. Give longer "
                "signals, or a smaller --hop."
            )
        y = self.y
        if y is not None and answer.time_axis is not None:
            per_hop = int(answer.shape[answer.time_axis])
            # Strides, and kernels without padding, leave fewer answers than steps.
            kept = steps // hop * per_hop - answer.delay
            if kept < 1:
                raise DataError(
                    f"the windows have {steps} steps, and the first answer of the stream "
                    f"comes {answer.delay} steps late. Give longer signals."
                )
            # A window's last hop may be a part of one.
            most = kept + unreached + (per_hop if steps < self.x.shape[2] else 0)
            if not kept <= y.shape[-1] <= most:
                raise DataError(
                    f"the windows have {y.shape[-1]} labels each, but the network gives "
                    f"{most} answers to {self.x.shape[2]} steps. Give a label for each answer."
                )
            y = y[..., :kept]
        return Windows(self.x[:, :, :steps], y, self.group)

    @property
    def is_classification(self) -> bool:
        """Whether ``y`` holds class indices."""
        return self.y is not None and self.y.dtype.kind == "i"

    def digest(self) -> str:
        """A sha256 over decoded windows and labels: the same data, however it was stored."""
        digest = hashlib.sha256()
        for array in (self.x, self.y):
            if array is not None:
                digest.update(f"{array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)  # no copy where it is whole
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data file: its training windows, its test windows, and what it says about them.

    ``is_whole`` says that it holds ``x`` alone, which stands for both parts.
    """

    name: str
    train: Windows | None
    test: Windows | None
    class_names: tuple[str, ...] = ()
    channel_names: tuple[str, ...] = ()
    sample_rate_hz: float | None = None
    is_whole: bool = False

    @property
    def calibration(self) -> Windows:
        """What may calibrate: training windows; of ``x`` alone, every fifth window.

        Raises:
            DataError: The file has test windows only, or a single window.
        """
        if self.train is None:
            raise DataError(
                f"{self.name} holds test windows but no training windows to calibrate on. "
                "Calibration never sees test windows: add the array `x_train`."
            )
        if not self.is_whole:
            return self.train
        if len(self.train) < 2:
            raise DataError(
                f"{self.name} holds a single window. Calibration and parity need one each: "
                "add windows to `x`."
            )
        return self.train.take(slice(None, None, CALIBRATION_STRIDE))

    @property
    def parity(self) -> Windows:
        """What parity is judged on: test windows, or what calibration leaves of ``x``.

        Raises:
            DataError: The file has training windows only.
        """
        if self.test is not None:
            return self.test
        assert self.train is not None
        if not self.is_whole:
            raise DataError(
                f"{self.name} holds training windows but no test windows to judge on: add the "
                "array `x_test`. Only a file with `x` alone is divided into both."
            )
        left = np.flatnonzero(np.arange(len(self.train)) % CALIBRATION_STRIDE != 0)
        return self.train.take(left) if len(left) else self.train


def batches(x: Array) -> Iterator[Array]:
    """Many windows, (windows, ...), `BATCH_WINDOWS` at a time."""
    for start in range(0, len(x), BATCH_WINDOWS):
        yield x[start : start + BATCH_WINDOWS]


def are_names(names: Sequence[object]) -> bool:
    """Whether all are different, printable and not empty: a report can tell them apart."""
    texts = [name for name in names if isinstance(name, str) and name and name.isprintable()]
    return len(set(texts)) == len(names)


def check_labels(windows: Windows, classes: int, where: str) -> None:
    """Raise `DataError` where a label is not below ``classes``."""
    if windows.y is not None and windows.is_classification and windows.y.max() >= classes:
        raise DataError(
            f"{where} holds the label {windows.y.max()}, but there are {classes} classes, "
            f"0 to {classes - 1}. Remove those windows, or use the data the model was trained "
            "for."
        )
