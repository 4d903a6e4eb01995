"""A large value in 128 numbers that still tell how far it is from another one.

Every number of a value goes, with a sign, into one of 128 sums; both are drawn by a hash of
its place (CountSketch: Charikar, Chen and Farach-Colton, 2002). The sketch of a difference is
the difference of the sketches, and the energy of a sketch is that of the value on average,
with a standard deviation of sqrt(2 / 128): 12.5 %, or 0.5 dB. A value of up to 128 numbers is
its own sketch, and of a difference in a single number nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcn_export.data import Array

SKETCH = 128
DEVIATION_DB = 0.5
"""Standard deviation of a ratio that two sketches tell, in dB."""
_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True)
class Seen:
    """One value of a graph: how many numbers, the sum of their squares, and their sketch."""

    size: int
    energy: float
    sketch: NDArray[np.float64]

    def noise(self, other: Seen) -> float:
        """Sum of squares of the difference; infinite where no comparison is possible."""
        if self.size != other.size:
            return float("inf")
        with np.errstate(invalid="ignore", over="ignore"):
            noise = float(np.sum(np.square(self.sketch - other.sketch)))
        return noise if np.isfinite(noise) else float("inf")


def look_at(value: Array) -> Seen:
    """Energy and sketch of a value, in memory that does not grow with it."""
    flat = np.ravel(value)
    energy = 0.0
    sums = np.zeros(SKETCH)
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, flat.size, _AT_ONCE):
            part = flat[start : start + _AT_ONCE].astype(np.float64)
            energy += float(np.sum(np.square(part)))
            if flat.size > SKETCH:
                places, signs = _drawn(start, part.size)
                sums += np.bincount(places, weights=signs * part, minlength=SKETCH)
    return Seen(
        flat.size, energy, sums if flat.size > SKETCH else flat.astype(np.float64).copy()
    )


def pack(values: Iterator[Seen]) -> NDArray[np.float32]:
    """Sketches one behind the other; float32 keeps them to 149 dB."""
    with np.errstate(over="ignore"):
        sketches = [seen.sketch.astype(np.float32) for seen in values]
    return np.concatenate([np.zeros(0, np.float32), *sketches])


def unpack(
    sizes: list[int], energies: NDArray[np.float64], packed: NDArray[np.float32]
) -> list[Seen]:
    """Read what `pack` wrote.

    Raises:
        ValueError: Sizes and sketches do not belong together.
    """
    lengths = [min(size, SKETCH) for size in sizes]
    are_shapes = (energies.shape, packed.shape) == ((len(sizes),), (sum(lengths),))
    are_types = energies.dtype == np.float64 and packed.dtype == np.float32
    if min(sizes, default=0) < 0 or not (are_shapes and are_types):
        raise ValueError("its sketches are not those of its values")
    ends = np.cumsum([0, *lengths])
    return [
        Seen(size, float(energy), packed[ends[i] : ends[i + 1]].astype(np.float64))
        for i, (size, energy) in enumerate(zip(sizes, energies, strict=True))
    ]


def _drawn(start: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Sum and sign of each place: splitmix64 (Steele, Lea and Flood, 2014) of its number."""
    with np.errstate(over="ignore"):
        h = np.arange(start + 1, start + count + 1, dtype=np.uint64)
        h *= np.uint64(0x9E3779B97F4A7C15)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        h ^= h >> np.uint64(31)
    places = (h & np.uint64(SKETCH - 1)).astype(np.int64)
    signs = 1.0 - 2.0 * ((h >> np.uint64(32)) & np.uint64(1)).astype(np.float64)
    return places, signs
