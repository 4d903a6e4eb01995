"""Which steps of the signal a step of a value depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tcn_export.timeline.place import Place


@dataclass(frozen=True, slots=True)
class Reach:
    """Step t depends on the signal's steps ``stride * t + offset``, for every offset.

    Attributes:
        stride: Steps of the signal per step of the value.
        low: The smallest offset: ``-low`` is the lookback.
        bits: Bit i stands for the offset ``low + i``; bit 0 is set. A receptive field may have
            holes, and a set of integers as one integer makes a shift of it a single operation.
        place: Which steps of the signal its steps stand for.

    >>> kernel = Reach().through(1, (-4, -2, 0))
    >>> kernel.lookback, kernel.lookahead, kernel.receptive_field, kernel.holes
    (4, 0, 5, 2)
    """

    stride: int = 1
    low: int = 0
    bits: int = 1
    place: Place = Place()  # noqa: RUF009 - frozen

    def through(self, stride: int, offsets: Sequence[int], behind: int = 0) -> Reach:
        """The reach of a value whose step t reads the steps ``stride * t + o`` of this one.

        Args:
            stride: Of the node between them.
            offsets: All ``o``, ascending: a kernel behind as much padding as it begins early.
            behind: Steps that are padded at the end; negative where some are cropped.
        """
        shifts = [self.stride * offset for offset in offsets]
        low = shifts[0]
        bits = 0
        for shift in shifts:
            bits |= self.bits << (shift - low)
        front, span = -offsets[0], offsets[-1] - offsets[0]
        place = self.place.through(self.stride, stride, front, span, behind)
        return Reach(self.stride * stride, self.low + low, bits, place)

    def union(self, other: Reach) -> Reach:
        """The reach of a value that depends on two of the same stride, step by step.

        It stands for what the later of the two stands for, as behind a kernel without padding
        that reads the same steps:

        >>> one = Reach().through(1, (1,)).union(Reach().through(1, (0,), behind=-1))
        >>> one == Reach().through(1, (0, 1))
        True
        """
        assert self.stride == other.stride
        low = min(self.low, other.low)
        bits = self.bits << (self.low - low) | other.bits << (other.low - low)
        later = max(self.place, other.place, key=lambda place: place.first)
        return Reach(self.stride, low, bits, later)

    def from_its_step(self) -> Reach:
        """The same with offsets from the step of the signal that step t stands for.

        >>> unpadded = Reach().through(1, (0, 1, 2)).from_its_step()
        >>> unpadded.lookback, unpadded.lookahead
        (2, 0)
        """
        return Reach(self.stride, self.low - self.place.first, self.bits)

    @property
    def lookback(self) -> int:
        """Steps before ``stride * t`` that are reached; negative where none is."""
        return -self.low

    @property
    def lookahead(self) -> int:
        """Steps after ``stride * t`` that are reached; negative where none is."""
        return self.low + self.bits.bit_length() - 1

    @property
    def receptive_field(self) -> int:
        """Steps from the first to the last that are reached, holes included."""
        return self.bits.bit_length()

    @property
    def holes(self) -> int:
        """Steps within the receptive field that are not reached."""
        return self.bits.bit_length() - self.bits.bit_count()

    def offsets(self) -> list[int]:
        """All offsets, ascending."""
        return [self.low + i for i, bit in enumerate(reversed(f"{self.bits:b}")) if bit == "1"]
