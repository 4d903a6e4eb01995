"""What went in and what came out, on a few golden feeds: the curves and points of a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcn_export.data import Array
from tcn_export.manifest import Manifest
from tcn_export.parity.golden import Feed, Golden
from tcn_export.report.plots import Scale, curve
from tcn_export.report.words import figure

Outputs = Mapping[str, Mapping[str, Array]]
"""What the artifact answered, by feed and output."""
_SHOWN = ("real", "single", "impulses")
_KINDS = {"real": "a real window", "noise": "seeded noise", "stress": "a stress signal"}
_MOST_CURVES = 6
_MOST_VALUES = 16


@dataclass(frozen=True, slots=True)
class Curve:
    """One channel over time: the eager model's, and the artifact's where it ran."""

    name: str
    low: str
    high: str
    golden: str
    actual: str | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Value:
    """One number of an answer, and where both models put it, in percent of the row."""

    name: str
    golden: str
    golden_at: float
    actual: str | None = None
    actual_at: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of one window."""

    name: str
    span: str
    curves: tuple[Curve, ...] = ()
    values: tuple[Value, ...] = ()
    left_out: int = 0
    zero_at: float | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A feed: the first of its windows."""

    name: str
    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def shown_feeds(manifest: Manifest, golden: Golden, outputs: Outputs | None) -> list[Shown]:
    """The feeds that a page draws.

    Args:
        manifest: Names the axes.
        golden: Inputs and the eager model's answers.
        outputs: The artifact's answers; None where it did not run.
    """
    drawable = [feed for feed in golden.feeds if _has_a_window(golden, feed)]
    by_name = {feed.name: feed for feed in drawable}
    chosen = [by_name[name] for name in _SHOWN if name in by_name] or drawable[:2]
    return [_shown(manifest, golden, feed, (outputs or {}).get(feed.name)) for feed in chosen]


def _has_a_window(golden: Golden, feed: Feed) -> bool:
    arrays = (*feed.inputs.values(), *golden.references[feed.name].float64.values())
    return all(array.ndim and array.size for array in arrays)


def _shown(
    manifest: Manifest, golden: Golden, feed: Feed, actual: Mapping[str, Array] | None
) -> Shown:
    rate, reference = manifest.sample_rate_hz, golden.references[feed.name]
    inputs = [
        _curves(spec.name, feed.inputs[spec.name], None, spec.time_axis, rate)
        for spec in manifest.signature.inputs
        if spec.name in feed.inputs and spec.time_axis is not None
    ]
    outputs = []
    for i, spec in enumerate(manifest.signature.outputs):
        wanted = reference.float64.get(spec.name)
        if wanted is None:
            continue
        found = None if actual is None else actual.get(spec.name)
        if found is not None and found.shape != wanted.shape:
            found = None
        if spec.time_axis is not None and wanted.ndim == 3:
            outputs.append(_curves(spec.name, wanted, found, spec.time_axis, rate))
        else:
            names = manifest.classes if i == 0 else ()
            outputs.append(_values(spec.name, wanted, found, names))
    return Shown(feed.name, _KINDS.get(feed.kind, feed.kind), tuple(inputs), tuple(outputs))


def _curves(
    name: str, golden: Array, actual: Array | None, time_axis: int, rate: float | None
) -> Tensor:
    """The channels of the first window; time goes last."""
    wanted = np.moveaxis(golden, time_axis, -1)[0]
    found = None if actual is None else np.moveaxis(actual, time_axis, -1)[0]
    wanted = wanted.reshape(-1, wanted.shape[-1]).astype(np.float64)
    curves = []
    for i, signal in enumerate(wanted[:_MOST_CURVES]):
        other = None if found is None else found.reshape(wanted.shape)[i].astype(np.float64)
        scale = Scale.around(signal, *([] if other is None else [other]))
        curves.append(
            Curve(
                f"{name}[{i}]" if len(wanted) > 1 else name,
                figure(scale.low),
                figure(scale.high),
                curve(signal, scale),
                None if other is None else curve(other, scale),
                "" if other is None else _largest(other, signal),
            )
        )
    left = max(0, len(wanted) - _MOST_CURVES)
    return Tensor(name, _span(wanted.shape[-1], rate), tuple(curves), left_out=left)


def _values(name: str, golden: Array, actual: Array | None, names: tuple[str, ...]) -> Tensor:
    wanted = np.asarray(golden[0], np.float64).ravel()
    found = None if actual is None else np.asarray(actual[0], np.float64).ravel()
    scale = Scale.around(wanted, *([] if found is None else [found]))
    largest = np.argsort(-np.nan_to_num(wanted), kind="stable")[:_MOST_VALUES]
    kept = np.sort(largest) if len(wanted) > _MOST_VALUES else np.arange(len(wanted))
    values = tuple(
        Value(
            names[i] if i < len(names) else f"{name}[{i}]",
            figure(float(wanted[i])),
            scale.place(float(wanted[i])),
            None if found is None else figure(float(found[i])),
            0.0 if found is None else _place(scale, float(found[i])),
            "" if found is None else figure(float(found[i] - wanted[i])),
        )
        for i in kept.tolist()
    )
    zero = scale.place(0.0) if scale.low < 0 < scale.high else None
    left = len(wanted) - len(values)
    return Tensor(name, "", values=values, left_out=left, zero_at=zero)


def _place(scale: Scale, value: float) -> float:
    return scale.place(value) if np.isfinite(value) else 0.0


def _largest(actual: NDArray[np.float64], golden: NDArray[np.float64]) -> str:
    with np.errstate(invalid="ignore"):
        return figure(float(np.max(np.abs(actual - golden))))


def _span(steps: int, rate: float | None) -> str:
    """How long a signal is, in time where that is known."""
    if rate is None:
        return f"{steps} steps"
    seconds = steps / rate
    told = f"{seconds:.4g} s" if seconds >= 1 else f"{1000 * seconds:.4g} ms"
    return f"{steps} steps, {told}"
