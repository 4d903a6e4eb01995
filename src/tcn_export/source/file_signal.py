"""The signal that a file describes: its sizes, which axis is time, what is left open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tcn_export.errors import UnsupportedModelError, UsageError
from tcn_export.graph import LONGEST, Dimension
from tcn_export.source.base import Layout, Told


@dataclass(frozen=True, slots=True)
class Move:
    """What an operator does to the axes of what it reads.

    ``swap`` exchanges the last two of three; ``convolution`` has channels in front of steps,
    and so have its norms and pools; ``same`` leaves them where they are.
    """

    reads: tuple[str, ...]
    gives: str
    kind: Literal["swap", "convolution", "same", "other"]


@dataclass(frozen=True, slots=True)
class FileSignal:
    """The input of a network in a file.

    Attributes:
        name: Of the input.
        batch: Its number of windows; None where any number goes.
        channels: Of the signal.
        steps: Of the window that it is run at.
        layout: Which axis is time.
        is_fixed: The file allows no other length.
    """

    name: str
    batch: int | None
    channels: int
    steps: int
    layout: Layout
    is_fixed: bool


def settle(
    path: Path,
    name: str,
    sizes: tuple[Dimension | None, ...],
    told: Told,
    moves: Iterable[Move],
    allowed: tuple[int, int] = (1, LONGEST),
) -> FileSignal:
    """Put together what a file says of its signal and what the user says.

    Args:
        path: The file.
        name: Of its input.
        sizes: Of the three axes: a number, or a symbol or None for what is open.
        told: What the user says.
        moves: The operators in order; where nobody tells the layout, it follows from the first
            convolution.
        allowed: Fewest and most steps, where the file leaves them open.

    Raises:
        UsageError: They contradict each other, or do not suffice.
        UnsupportedModelError: The signal has not three axes.
    """
    if len(sizes) != 3:
        raise UnsupportedModelError(
            f"the input `{name}` of {path} has the shape {_shape(sizes)}; expected (batch, "
            "channels, steps). Put a squeeze or unsqueeze inside the network."
        )
    layout = told.layout or _layout(path, name, sizes[1:], told, moves)
    channels, length = sizes[1:] if layout == "NCL" else sizes[:0:-1]
    for what, have, want in zip(
        ("channels", "steps"),
        (channels, length),
        told.input_shape or (None, None),
        strict=True,
    ):
        if want is not None and isinstance(have, int) and have != want:
            raise UsageError(
                f"{path} takes {have} {what}, and --input-shape says {want}. The file fixes "
                "that: leave it out, or give another file."
            )
    if told.input_shape is not None:
        channels = told.input_shape[0]
    if not isinstance(channels, int):
        raise UsageError(
            f"{path} leaves its channels open (`{channels or '?'}`). Give --input-shape "
            "CHANNELS,LENGTH."
        )
    steps = _steps(path, channels, length, told, allowed)
    batch = sizes[0] if isinstance(sizes[0], int) else None
    return FileSignal(name, batch, channels, steps, layout, isinstance(length, int))


def _shape(sizes: tuple[Dimension | None, ...]) -> str:
    return f"({', '.join(str(n or '?') for n in sizes)})"


def _layout(
    path: Path,
    name: str,
    sizes: tuple[Dimension | None, ...],
    told: Told,
    moves: Iterable[Move],
) -> Layout:
    """Which axis is time: by the sizes that were told, or by what the first layer takes.

    Raises:
        UsageError: Neither says it.
    """
    if told.input_shape is not None:
        ways: tuple[tuple[Layout, tuple[int, ...]], ...] = (
            ("NCL", told.input_shape),
            ("NLC", told.input_shape[::-1]),
        )
        fits = [
            layout
            for layout, wanted in ways
            if all(
                not isinstance(n, int) or n == m for n, m in zip(sizes, wanted, strict=True)
            )
        ]
        if len(fits) == 1:
            return fits[0]
    is_swapped = {name: False}
    for move in moves:
        read = next((one for one in move.reads if one in is_swapped), None)
        if read is None or move.kind == "other":
            continue
        if move.kind == "convolution":
            return "NLC" if is_swapped[read] else "NCL"
        is_swapped[move.gives] = is_swapped[read] ^ (move.kind == "swap")
    raise UsageError(
        f"{path} does not show which axis of its signal {_shape((None, *sizes))} is time: no "
        "convolution reads it before its axes change. Give --input-layout NCL for (batch, "
        "channels, steps), or NLC for (batch, steps, channels)."
    )


def _steps(
    path: Path, channels: int, length: Dimension | None, told: Told, allowed: tuple[int, int]
) -> int:
    """Steps to run the network at."""
    if isinstance(length, int):
        if told.is_dynamic or (told.length or length) != length:
            wanted = "any" if told.is_dynamic else told.length
            raise UsageError(
                f"{path} was exported for windows of {length} steps, and --length asks for "
                f"{wanted}. Export it again with that length, or with a dynamic one."
            )
        return length
    steps = told.input_shape[1] if told.input_shape is not None else told.length
    if steps is None:
        raise UsageError(
            f"{path} leaves the length of a window open (`{length or '?'}`). Give "
            f"--input-shape {channels},LENGTH."
        )
    for asked in (steps, told.length or steps):
        if not allowed[0] <= asked <= allowed[1]:
            raise UsageError(
                f"{path} takes {allowed[0]:,} to {allowed[1]:,} steps; {asked:,} were asked "
                "for. Give another length, or export it again for more."
            )
    return steps
