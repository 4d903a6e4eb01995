"""Which steps of the signal a step of a value depends on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reach:
    """Step t depends on the signal's steps ``stride * t + offset``, for every offset.

    Attributes:
        stride: Steps of the signal per step of the value.
        low: The smallest offset: ``-low`` is the lookback.
        bits: Bit i stands for the offset ``low + i``; bit 0 is set. A receptive field may have
            holes, and a set of integers as one integer makes a shift of it a single operation.
        missing: Steps of the signal that the value lacks, where its steps are spread out: what
            crops and unpadded kernels cost, less what padding brought.

    >>> kernel = Reach().through(1, (-4, -2, 0))
    >>> kernel.lookback, kernel.lookahead, kernel.receptive_field, kernel.holes
    (4, 0, 5, 2)
    """

    stride: int = 1
    low: int = 0
    bits: int = 1
    missing: int = 0

    def through(self, stride: int, offsets: Iterable[int], missing: int = 0) -> Reach:
        """The reach of a value whose step t reads the steps ``stride * t + o`` of this one."""
        shifts = [self.stride * offset for offset in offsets]
        low = min(shifts)
        bits = 0
        for shift in shifts:
            bits |= self.bits << (shift - low)
        lost = self.missing + self.stride * stride * missing
        return Reach(self.stride * stride, self.low + low, bits, lost)

    def union(self, other: Reach) -> Reach:
        """The reach of a value that depends on two of the same stride, step by step."""
        assert self.stride == other.stride
        low = min(self.low, other.low)
        bits = self.bits << (self.low - low) | other.bits << (other.low - low)
        return Reach(self.stride, low, bits, min(self.missing, other.missing))

    def from_the_end(self) -> Reach:
        """The same with offsets from the step of the signal that step t stands for.

        Who reads "the last step" means the last one of the signal, behind unpadded kernels
        too: the steps that a value lacks are missing in front. What is longer than the signal,
        in front of a crop, begins with it.

        >>> unpadded = Reach().through(1, (0, 1, 2), missing=2).from_the_end()
        >>> unpadded.lookback, unpadded.lookahead
        (2, 0)
        """
        return Reach(self.stride, self.low - self.first, self.bits)

    @property
    def first(self) -> int:
        """The step of the signal that step 0 stands for."""
        return max(0, self.missing)

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

    @property
    def is_causal(self) -> bool:
        """Whether no later step is reached."""
        return self.lookahead <= 0

    def offsets(self) -> list[int]:
        """All offsets, ascending."""
        return [self.low + i for i, bit in enumerate(reversed(f"{self.bits:b}")) if bit == "1"]
