"""Golden data: feeds with the eager model's outputs, kept in the bundle as ``golden.npz``.

Entries: ``FEED/input/NAME``, ``FEED/float64/NAME``, ``FEED/float32/NAME``,
``FEED/float32_error/NAME`` (a number), ``feeds`` (names and kinds in order), ``classes``, and
for the windows the export was judged on ``windows/answers`` (top class per window or step) or
``windows/squared_error`` and ``windows/absolute_error`` (per window), all of the eager model.

Part of ``build_engine.py``: Python 3.8, numpy and the standard library only.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from tcn_export.archive import read_arrays
from tcn_export.errors import BundleError
from tcn_export.parity.metrics import max_abs_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tcn_export.data import Array

GOLDEN_FILE = "golden.npz"
SINGLE = "single"
Kind = Literal["stress", "real", "noise"]


@dataclass(frozen=True)
class Feed:
    """Inputs by name, and what kind of signal they hold."""

    name: str
    kind: Kind
    inputs: Mapping[str, Array]


@dataclass(frozen=True)
class Reference:
    """The eager model's outputs for one feed, by name, in both precisions.

    ``float32_error`` is the largest error that float32 was seen to make, drawn several times;
    bundles of earlier versions hold none.
    """

    float64: Mapping[str, Array]
    float32: Mapping[str, Array]
    float32_error: Mapping[str, float] = field(default_factory=dict)

    def eager_error(self, name: str) -> float:
        """What eager float32 errs in an output."""
        own = max_abs_error(self.float32[name], self.float64[name])
        return max(own, self.float32_error.get(name, 0.0))


@dataclass(frozen=True)
class WindowAnswers:
    """What a model answered on many windows, reduced to what judging needs.

    Attributes:
        answers: Top class per window, (windows,), or per step, (windows, length).
        squared_error: Mean squared error per window against its targets, (windows,).
        absolute_error: Mean absolute error likewise; bundles of earlier versions hold none.
        fault: What is wrong with the form of the outputs; None where nothing is. Not kept.
    """

    answers: NDArray[np.int64] | None = None
    squared_error: NDArray[np.float64] | None = None
    absolute_error: NDArray[np.float64] | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Golden:
    """Feeds with their references, and the eager answers on the windows of the export."""

    feeds: tuple[Feed, ...]
    references: Mapping[str, Reference]
    classes: tuple[str, ...]
    windows: WindowAnswers | None = None

    @property
    def single(self) -> Feed:
        """The feed of one window, which latency is told of.

        Raises:
            BundleError: There is none.
        """
        for feed in self.feeds:
            if feed.name == SINGLE:
                return feed
        raise BundleError(f"{GOLDEN_FILE} holds no feed `{SINGLE}`. Export the model again.")


def golden_to_bytes(golden: Golden) -> bytes:
    """Serialise as a compressed npz archive without pickles."""
    arrays: dict[str, Array] = {
        "feeds": np.array([[feed.name, feed.kind] for feed in golden.feeds]),
        "classes": np.array(golden.classes, dtype=np.str_),
    }
    for feed in golden.feeds:
        reference = golden.references[feed.name]
        for part, values in (
            ("input", feed.inputs),
            ("float64", reference.float64),
            ("float32", reference.float32),
            ("float32_error", reference.float32_error),
        ):
            for name, value in values.items():
                arrays[f"{feed.name}/{part}/{name}"] = np.asarray(value)
    if golden.windows is not None:
        if golden.windows.answers is not None:
            arrays["windows/answers"] = golden.windows.answers.astype(np.int32)
        if golden.windows.squared_error is not None:
            arrays["windows/squared_error"] = golden.windows.squared_error
        if golden.windows.absolute_error is not None:
            arrays["windows/absolute_error"] = golden.windows.absolute_error
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def golden_from_bytes(raw: bytes) -> Golden:
    """Read what `golden_to_bytes` wrote.

    Raises:
        BundleError: The archive is damaged.
    """
    try:
        arrays = read_arrays(io.BytesIO(raw))
        feeds, references = [], {}
        for name, kind in arrays["feeds"].tolist():
            feeds.append(Feed(name, kind, _part(arrays, name, "input")))
            references[name] = Reference(
                _part(arrays, name, "float64"),
                _part(arrays, name, "float32"),
                _numbers(arrays, name, "float32_error"),
            )
        windows = None
        if "windows/answers" in arrays:
            windows = WindowAnswers(answers=arrays["windows/answers"].astype(np.int64))
        elif "windows/squared_error" in arrays:
            windows = WindowAnswers(
                squared_error=arrays["windows/squared_error"],
                absolute_error=arrays.get("windows/absolute_error"),
            )
        for reference in references.values():
            _check_pair(reference)
        classes = tuple(map(str, arrays["classes"].tolist()))
        return Golden(tuple(feeds), references, classes, windows)
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{GOLDEN_FILE} is damaged: {error}. Export the model again."
        ) from error


def _check_pair(reference: Reference) -> None:
    """Raise `ValueError` unless both precisions hold the same outputs."""
    kinds = [
        {name: (value.shape, value.dtype) for name, value in values.items()}
        for values in (reference.float64, reference.float32)
    ]
    wanted = {name: (shape, np.dtype(np.float32)) for name, (shape, _) in kinds[0].items()}
    if kinds[1] != wanted or any(dtype != np.float64 for _, dtype in kinds[0].values()):
        raise ValueError("its outputs in float64 and float32 do not belong together")


def _part(arrays: Mapping[str, Array], feed: str, part: str) -> dict[str, Array]:
    found = _entries(arrays, feed, part)
    if not found:
        raise KeyError(f"no `{feed}/{part}/`")
    return found


def _numbers(arrays: Mapping[str, Array], feed: str, part: str) -> dict[str, float]:
    return {name: float(value) for name, value in _entries(arrays, feed, part).items()}


def _entries(arrays: Mapping[str, Array], feed: str, part: str) -> dict[str, Array]:
    prefix = f"{feed}/{part}/"
    return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
