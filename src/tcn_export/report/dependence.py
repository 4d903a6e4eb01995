"""What the outputs depend on, in words and as a drawing; from what manifests hold of it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.text import Text

TOLD_TOGETHER = ("receptive_field", "lookahead", "causal", "dependence")
"""Entries that `dependence_lines` tells."""
_LABEL = 18


def dependence_lines(entries: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values for a table.

    Args:
        entries: A manifest's, or what `inspection.describe_model` gives.
    """
    found, rate = entries["dependence"], entries["sample_rate_hz"]
    if found is None:
        return [("receptive field", "not analysed: exported by an earlier version")]
    reads = dict.fromkeys(f"{read['output']}: {read['how']}" for read in found["reads"])
    lines = [
        ("reads", "; ".join(reads) or "nothing of the signal"),
        ("receptive field", _field(entries, rate)),
        ("lookahead", _lookahead(entries, rate)),
        *(("", f"looks ahead first: {node}") for node in found["looks_ahead"]),
        *(("", f"not followed: {refusal}") for refusal in found["refusals"]),
        ("window", _window(found)),
    ]
    if found["measured"] is not None:
        lines.append(("measured", _measured(entries, found["measured"])))
    return lines


def _field(entries: Mapping[str, Any], rate: float | None) -> str:
    field, found = entries["receptive_field"], entries["dependence"]
    if field is None:
        return "not known" if found["refusals"] else "not the same for every step"
    holes = f", {found['holes']} of them holes" if found["holes"] else ""
    stride = f", every {found['stride']} steps" if (found["stride"] or 1) > 1 else ""
    return f"{_steps(field, rate)}{holes}{stride}"


def _lookahead(entries: Mapping[str, Any], rate: float | None) -> str:
    ahead = entries["lookahead"]
    if entries["causal"]:
        late = f", {_steps(-ahead, rate)} late" if ahead is not None and ahead < 0 else ""
        return f"none: causal{late}"
    if entries["causal"] is None:
        return "not known"
    return f"{'' if ahead is None else _steps(ahead, rate) + ': '}not causal"


def _window(found: Mapping[str, Any]) -> str:
    steps, idle = _steps(found["window"]), found["window"] - found["needed"]
    if found.get("is_dynamic"):
        return f"any length; e.g. {steps} here"
    return steps + (f", {idle} of them never read" if idle else "")


def _measured(entries: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    found, back, ahead = entries["dependence"], measured["lookback"], measured["lookahead"]
    moved = f"{_steps(measured['moved'])} of {measured['windows']} random windows moved"
    silent = measured["silent"]
    if None in (back, ahead) or any(read.get("gathers") for read in found["reads"]):
        return moved + _followed(found, measured)
    told = f"{moved}: answers follow up to {_steps(back)} later, {_steps(ahead)} earlier"
    if ahead <= 0:
        told = f"{moved}: answers follow up to {_steps(back)} later, none earlier"
    said = (found["lookback"], entries["lookahead"])
    if silent:
        told += _silent(found, silent)
    elif None not in said and said != (back, ahead) and back <= said[0] and ahead <= said[1]:
        told += " (the window holds no more)"
    return told


def _followed(found: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """Where distances say nothing: how many of the moved steps moved an answer."""
    followed, silent = measured.get("followed"), measured["silent"]
    if followed == 0 or (followed is None and measured["lookback"] is None):
        return ", and no answer with them"
    still = 0 if followed is None else measured["moved"] - followed  # None: an older bundle
    if still and still == silent:
        return f": {still} of them moved no answer ({_why_silent(found)})"
    told = f": {still} of them moved no answer" if still else ": every one moved an answer"
    return told + (_silent(found, silent) if silent else "")


def _silent(found: Mapping[str, Any], silent: int) -> str:
    return (
        f"; {silent} of them do not reach all that the graph lets them ({_why_silent(found)})"
    )


def _why_silent(found: Mapping[str, Any]) -> str:
    if found["refusals"]:
        return "the graph could not be followed there, so this is an upper bound"
    return "dead units, zero weights"


def _steps(number: int, rate: float | None = None) -> str:
    steps = f"{number} step{'' if number == 1 else 's'}"
    return f"{steps} ({1000 * number / rate:.4g} ms)" if rate else steps


def cone_drawing(entries: Mapping[str, Any]) -> Text:
    """Which steps of every layer one answer needs: a row per layer, time to the right."""
    found = entries["dependence"] or {}
    cone = found.get("cone")
    if cone is None or not cone["rows"]:
        return Text("")
    rows, columns = cone["rows"], max(len(row["drawn"]) for row in cone["rows"])
    lines = [
        f"{_label(row['layer']):{_LABEL}} {row['drawn'].ljust(columns)} {row['needed']:>5}"
        + ("" if i == 0 else f" {_kernel(row)}")
        for i, row in enumerate(rows)
    ]
    if cone["left_out"]:
        lines.insert(len(rows) // 2, f"... and {cone['left_out']} layers between")
    scale = _scale(cone["first"], cone["per_column"], columns)
    steps = "a column is " + _steps(cone["per_column"])
    gathers = any(read.get("gathers") for read in found.get("reads", ())[:1])
    of = "one step that is read" if gathers else "one answer"
    legend = f"{steps}: █ all needed for {of}, ▒ some, · none"
    if cone["per_column"] == 1:
        legend = f"{steps}: █ needed for {of}, · not"
    return Text(
        "\n".join([*lines, f"{'':{_LABEL}} {scale}", legend]), no_wrap=True, overflow="crop"
    )


def _label(layer: str) -> str:
    """The path of a module, its beginning left out up to a dot where it is too long."""
    if len(layer) <= _LABEL:
        return layer
    end = layer[1 - _LABEL :]
    if "." in end and layer[-_LABEL] != ".":
        end = end[end.index(".") + 1 :]
    return f"…{end}"


def _kernel(row: Mapping[str, Any]) -> str:
    stride = f" s{row['stride']}" if row["stride"] > 1 else ""
    return f"k{row['taps']} d{row['spacing']}{stride}"


def _scale(first: int, per_column: int, columns: int) -> str:
    """Numbers under the drawing: the first step, the step that is read, and the last."""
    marks = {0: str(first), -first // per_column: "0"}
    last = _last(first, per_column, columns)
    if last is not None:
        marks[columns - len(f"+{last}")] = f"+{last}"
    line = ""
    for column, mark in sorted(marks.items()):
        if 0 <= column <= columns and (column > len(line) or not line):
            line = line.ljust(column) + mark
    return line


def _last(first: int, per_column: int, columns: int) -> int | None:
    """The last step of a drawing; None where its last column holds the step that is read."""
    last = first + columns * per_column - 1
    return last if last >= per_column else None


@dataclass(frozen=True, slots=True)
class Strip:
    """A layer of the cone: its runs of needed steps, as (first column, columns, level)."""

    layer: str
    kernel: str
    needed: int
    runs: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True, slots=True)
class Strips:
    """The cone as strips over ``columns`` columns of ``per_column`` steps each."""

    columns: int
    first: int
    last: int
    per_column: int
    left_out: int
    rows: tuple[Strip, ...]


def cone_strips(entries: Mapping[str, Any]) -> Strips | None:
    """The drawing of `cone_drawing` for a page; None where there is none."""
    cone = (entries["dependence"] or {}).get("cone")
    if cone is None or not cone["rows"]:
        return None
    columns = max(len(row["drawn"]) for row in cone["rows"])
    rows = tuple(
        Strip(row["layer"], "" if i == 0 else _kernel(row), row["needed"], _runs(row["drawn"]))
        for i, row in enumerate(cone["rows"])
    )
    return Strips(
        columns,
        cone["first"],
        _last(cone["first"], cone["per_column"], columns) or 0,
        cone["per_column"],
        cone["left_out"],
        rows,
    )


def _runs(drawn: str) -> tuple[tuple[int, int, str], ...]:
    levels = {"█": "all", "▒": "some"}
    runs, column = [], 0
    for char, group in itertools.groupby(drawn):
        length = len(list(group))
        if char in levels:
            runs.append((column, length, levels[char]))
        column += length
    return tuple(runs)
