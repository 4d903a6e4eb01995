"""What the artifact is asked: real windows if there are some, and always a stress set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcn_export.data import Array
from tcn_export.parity.golden import SINGLE, Feed


@dataclass(frozen=True, slots=True)
class SignalScale:
    """Where a model's signal lives: mean and deviation of each channel, (channels,) each.

    Noise around zero says little about a sensor that rests at 9.81.
    """

    center: NDArray[np.float64]
    spread: NDArray[np.float64]


def stress_set(
    name: str, scale: SignalScale, lengths: tuple[int, ...], seed: int
) -> tuple[Feed, ...]:
    """Signals that no data set holds, in the units of the model's input.

    Args:
        name: Name of the input, (batch, channels, length) in float32.
        scale: Units of the input.
        lengths: Steps; the first for every signal, the others for noise only.
        seed: Of the noise.
    """
    rng = np.random.default_rng(seed)
    channels, length = len(scale.center), lengths[0]

    def noise(batch: int, steps: int = length) -> Array:
        return rng.standard_normal((batch, channels, steps))

    def flat(batch: int) -> Array:
        return np.zeros((batch, channels, length))

    shapes: dict[str, Callable[[], Array]] = {
        "normal": lambda: noise(4),
        SINGLE: lambda: noise(1),
        "impulses": lambda: _impulses(flat(3), rng),
        "constants": lambda: flat(2) + np.array([-2.0, 2.0])[:, None, None],
        "steps": lambda: _steps(flat(2)),
        "large": lambda: noise(2) * 1e3,
        "tiny": lambda: noise(2) * 1e-3,
    }
    signals = {key: _in_units(make(), scale) for key, make in shapes.items()}
    signals["zeros"] = np.zeros((1, channels, length), np.float32)
    for steps in lengths[1:]:
        signals[f"length_{steps}"] = _in_units(noise(2, steps), scale)
    return tuple(Feed(key, "stress", {name: signal}) for key, signal in signals.items())


def noise_windows(scale: SignalScale, length: int, windows: int, seed: int) -> Array:
    """Seeded noise where real windows would be: (windows, channels, length) in float32."""
    rng = np.random.default_rng(seed)
    return _in_units(rng.standard_normal((windows, len(scale.center), length)), scale)


def _impulses(signal: Array, rng: np.random.Generator) -> Array:
    """One spike per window: at the first step, at the last, and somewhere between."""
    for row, step in enumerate((0, signal.shape[2] - 1, int(rng.integers(signal.shape[2])))):
        signal[row, :, step] = 10.0
    return signal


def _steps(signal: Array) -> Array:
    half = signal.shape[2] // 2
    signal[0, :, half:], signal[1, :, :half] = 3.0, 3.0
    return signal


def _in_units(signal: Array, scale: SignalScale) -> Array:
    units = scale.center[None, :, None] + signal * scale.spread[None, :, None]
    return units.astype(np.float32)
