"""The windows of one export: what calibrates, what judges, and what goes into the bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from tcn_export.data import Array, Windows
from tcn_export.errors import DataError
from tcn_export.graph import LENGTH, Signature
from tcn_export.npz import load_dataset
from tcn_export.options import NOISE, ExportOptions
from tcn_export.parity.feeds import SignalScale, noise_windows, stress_set
from tcn_export.parity.fit import check_class_names, check_fit
from tcn_export.parity.golden import Feed

if TYPE_CHECKING:
    from tcn_export.source.base import Source

NOISE_WINDOWS = 256
GOLDEN_WINDOWS, GOLDEN_BYTES = 32, 128 * 1024
"""Real windows kept in the bundle: so many, or as many as fit."""
FEWEST_GOLDEN_WINDOWS, MOST_GOLDEN_BYTES = 8, 2 * 1024 * 1024
"""Of long windows too there are so many, as far as that fits: the noise of few is chance."""


@dataclass(frozen=True, slots=True)
class ExportData:
    """Windows to calibrate on (int8 only) and to judge on, and whether they are real.

    ``class_names`` and ``sample_rate_hz`` are what the file says, if it says anything.
    """

    name: str
    calibration: Windows | None
    parity: Windows
    kind: Literal["real", "noise"]
    class_names: tuple[str, ...] = ()
    sample_rate_hz: float | None = None

    def for_stream(self, hop: Signature, unreached: int) -> ExportData:
        """The same, judged on what a stream answers to: see `data.Windows.for_stream`."""
        parity = self.parity.for_stream(hop.hop, hop.outputs[0], unreached)
        return replace(self, parity=parity)


def read_export_data(
    source: Source, signature: Signature, options: ExportOptions
) -> ExportData | None:
    """Read the windows that the user gave, or make noise where he asked for that.

    Args:
        source: Gives the units of noise, the task and the classes.
        signature: Of the artifact to be made.
        options: Names the data.

    Raises:
        DataError: They cannot be read, or do not fit the model.
    """
    if options.data is None:
        return None
    if options.data == NOISE:
        length = _steps(signature, source)
        noise = noise_windows(_scale(source), length, 2 * NOISE_WINDOWS, options.seed)
        halves = Windows(noise[:NOISE_WINDOWS]), Windows(noise[NOISE_WINDOWS:])
        return ExportData(NOISE, *halves, "noise")
    dataset = load_dataset(Path(options.data))
    check_class_names(dataset.class_names, source.classes, str(options.data))
    calibration = dataset.calibration if options.may_quantize else None
    if options.mode == "stream":
        signature = _of_any_length(signature)
    for windows in filter(None, (calibration, dataset.parity)):
        check_fit(windows, signature, source.task, source.classes, str(options.data))
        if np.ptp(windows.x) == 0:
            raise DataError(
                f"the windows of {options.data} hold {windows.x.flat[0]:g} and nothing else: "
                "nothing can be calibrated or judged on them. Give recorded signals."
            )
    return ExportData(
        dataset.name,
        calibration,
        dataset.parity,
        "real",
        dataset.class_names,
        dataset.sample_rate_hz,
    )


def _of_any_length(signature: Signature) -> Signature:
    """Answers at every step have as many as the signal asks for: see `Windows.for_stream`."""
    answer, *others = signature.outputs
    if signature.inputs[0].shape[2] != LENGTH or len(answer.shape) < 3:
        return signature
    answer = replace(answer, shape=(*answer.shape[:2], LENGTH, *answer.shape[3:]))
    return replace(signature, outputs=(answer, *others))


def informed(source: Source, data: ExportData | None) -> Source:
    """A foreign network with what real windows tell of it; a checkpoint knows it all.

    Stress signals around zero would say little about a sensor that rests at 9.81, so they move
    to where the windows lie.
    """
    if source.kind == "checkpoint" or data is None or data.kind != "real":
        return source
    x = data.parity.x.astype(np.float64)
    spread = x.std(axis=(0, 2))
    return replace(
        source,
        center=x.mean(axis=(0, 2)),
        spread=np.where(spread > 0, spread, 1.0),
        classes=data.class_names or source.classes if source.classes else (),
        sample_rate_hz=data.sample_rate_hz,
    )


def golden_feeds(
    source: Source,
    signature: Signature,
    data: ExportData | None,
    seed: int,
    lengths: tuple[int, ...] = (),
) -> tuple[Feed, ...]:
    """The stress set, and some of the windows.

    Args:
        source: Gives the units of the stress set.
        signature: Of what is judged.
        data: The windows; None for the stress set alone.
        seed: Of the stress set.
        lengths: Steps of its signals, the usual ones first; found out where nobody tells.
    """
    spec = signature.inputs[0]
    if not lengths:
        length = _steps(signature, source)
        others = () if spec.shape[2] == length else _other_lengths(length)
        lengths = (length, *others)
    feeds = stress_set(spec.name, _scale(source), lengths, seed)
    if data is None:
        return feeds
    judged = data.parity
    if lengths and judged.x.shape[2] > max(lengths):  # a stream may be given hours of signal
        judged = replace(judged, x=judged.x[:, :, : max(lengths)])
    windows = judged.spread(golden_windows(judged.x[0].nbytes)).x
    # Kernels depend on the batch: what most devices are asked is one window.
    alone = Feed(f"{data.kind}_alone", data.kind, {spec.name: windows[:1]})
    return (*feeds, Feed(data.kind, data.kind, {spec.name: windows}), alone)


def one_window(source: Source, signature: Signature, seed: int) -> dict[str, Array]:
    """One window of noise in the model's units: what is fed where only time matters."""
    spec = signature.inputs[0]
    return {spec.name: noise_windows(_scale(source), _steps(signature, source), 1, seed)}


def golden_windows(size: int) -> int:
    """How many windows of ``size`` bytes a bundle keeps.

    >>> [golden_windows(size) for size in (2_000, 16_000, 64_000, 500_000, 5_000_000)]
    [32, 8, 8, 4, 1]
    """
    few = min(FEWEST_GOLDEN_WINDOWS, MOST_GOLDEN_BYTES // size)
    return max(1, few, min(GOLDEN_WINDOWS, GOLDEN_BYTES // size))


def window_lengths(
    source: Source, signature: Signature, data: ExportData | None
) -> tuple[int, int, int]:
    """Fewest, usual and most steps of the windows that an export is judged on."""
    length = _steps(signature, source)
    if signature.inputs[0].shape[2] == length:
        return length, length, length
    judged = () if data is None else (data.parity.x.shape[2],)
    lengths = (length, *_other_lengths(length), *judged)
    return min(lengths), length, max(lengths)


def _other_lengths(length: int) -> tuple[int, int]:
    """A symbolic length has to hold for odd and even lengths, longer and shorter ones."""
    return 2 * length + 1, max(length // 2, 2)


def _steps(signature: Signature, source: Source) -> int:
    """Steps of the exported window; of a symbolic one those of the training."""
    length = signature.inputs[0].shape[2]
    return length if isinstance(length, int) else source.length


def _scale(source: Source) -> SignalScale:
    return SignalScale(source.center, source.spread)
