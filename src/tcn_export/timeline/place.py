"""Which step of the signal a value's steps stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value lies over the signal.

    Crops and pads move no step: what is left stands for what it stood for. A kernel that is
    not padded costs steps. Those that stand for padding go first, and then the earliest ones:
    who reads "the last step" behind such kernels means the last one of the signal. A value
    that begins as many steps late as it reaches beyond the end was shifted, and stands for the
    signal from its first step on.

    Attributes:
        first: The step of the signal that step 0 stands for; negative for padding.
        beyond: Steps of the signal's own length by which the value reaches beyond its end;
            negative where it ends before.

    >>> Place().through(1, 1, 0, 2, 0)  # a kernel of 3 without padding
    Place(first=2, beyond=0)
    >>> Place().through(1, 1, 1, 2, 1)  # padded by 1 on both sides
    Place(first=0, beyond=0)
    >>> Place().through(1, 1, 2, 2, 2)  # padded by 2 on both sides, in front of a crop
    Place(first=0, beyond=2)
    >>> Place().through(1, 2, 0, 1, 0)  # two at a time: step t begins with step 2t
    Place(first=0, beyond=0)
    >>> Place().through(1, 1, -1, 0, 0).through(1, 1, 0, 0, 1)  # a crop, and a pad behind
    Place(first=0, beyond=0)
    >>> Place(0, 2).through(3, 1, -1, 0, 0)  # a crop, where the last of three steps is begun
    Place(first=3, beyond=2)
    """

    first: int = 0
    beyond: int = 0

    def through(self, spacing: int, stride: int, front: int, span: int, behind: int) -> Place:
        """Where the value lies that a node makes of this one.

        Args:
            spacing: Steps of the signal per step of this value.
            stride: Steps of this value per step of the new one.
            front: Steps that are padded in front; negative where some are cropped.
            span: Steps from the first to the last tap of the kernel.
            behind: As ``front``, at the end.
        """
        first = self.first - spacing * front
        beyond = self.beyond + spacing * behind
        lost = spacing * span
        in_front = min(max(-first, 0), lost)
        at_end = min(max(beyond, 0), lost - in_front)
        earliest = lost - in_front - at_end
        first += in_front + earliest - earliest % (spacing * stride)
        beyond -= at_end
        # What is left of a last, strided step reaches beyond the end, and is no shift.
        whole = beyond - int(math.fmod(beyond, spacing * stride))
        if first * whole > 0:
            shift = min(first, whole, key=abs)
            first, beyond = first - shift, beyond - shift
        return Place(first, beyond)
