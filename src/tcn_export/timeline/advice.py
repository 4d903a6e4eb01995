"""What a user should know about the length of the window."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tcn_export.timeline.reach import Reach
from tcn_export.timeline.reads import Read

UNREAD_SHARE = 0.25
"""Of the window: so much may go unread without a warning."""


def length_warnings(
    window: int, needed: int, unread: int, reads: Sequence[Read], reach: Reach | None
) -> tuple[str, ...]:
    """Say whether answers depend on padding, or steps are never read.

    Args:
        window: Steps of it.
        needed: So many of them can reach an answer.
        unread: So many at the beginning cannot.
        reads: Where time is read.
        reach: Of all reads together, where it is known.
    """
    found = [] if reach is None else _of_padding(window, reads, reach)
    idle = window - needed
    if not needed:
        found.append("no step of the window can reach an answer: all that is read is padding.")
    elif idle >= UNREAD_SHARE * window:
        told = f"{idle} of the {window} steps of the window are never read"
        if _is_plain(window, needed, unread, reach):
            told += f". Leave the first {unread} out: --length {window - unread}."
        else:
            told += ": it may be shorter." if unread >= UNREAD_SHARE * window else "."
        found.append(told)
    return tuple(found)


def _is_plain(window: int, needed: int, unread: int, reach: Reach | None) -> bool:
    """Whether as many steps as the receptive field has are needed, the last ones."""
    if reach is None or reach.stride > 1 or reach.holes:
        return False
    return needed == reach.receptive_field == window - unread


def _of_padding(window: int, reads: Sequence[Read], reach: Reach) -> list[str]:
    lacking = [read for read in reads if _missing(read, window) > 0]
    if not lacking:
        return []
    missing = max(_missing(read, window) for read in lacking)
    advised = [_advised(read, window) for read in lacking]
    known = [length for length in advised if length is not None]
    field = reach.receptive_field
    is_plain = missing == field - window
    told = f"is shorter than the receptive field of {field}" if is_plain else "begins too late"
    steps = "1 step that an answer depends on is" if missing == 1 else (
        f"{missing} steps that an answer depends on are"
    )  # fmt: skip
    advice = f" Longer windows tell more: --length {max(known)}." if known == advised else ""
    return [f"the window of {_steps(window)} {told}: {steps} zero padding.{advice}"]


def _missing(read: Read, window: int) -> int:
    """So many steps in front of the window does the latest answer depend on."""
    assert read.reach is not None
    if read.step is None:
        return read.reach.receptive_field - window
    return read.reach.lookback - read.step


def _advised(read: Read, window: int) -> int | None:
    """The shortest window that lacks none; None where longer ones move what is read."""
    assert read.reach is not None
    if read.step is None:
        return read.reach.receptive_field
    stride = read.reach.stride
    strides = math.ceil(_missing(read, window) / stride)
    return window + strides * stride if read.from_end else None


def _steps(number: int) -> str:
    return f"{number} step{'' if number == 1 else 's'}"
