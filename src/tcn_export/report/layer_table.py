"""Where a graph goes wrong, on a terminal."""

from __future__ import annotations

import math

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tcn_export.parity.bisect import LayerRow
from tcn_export.parity.location import Location
from tcn_export.parity.sketch import DEVIATION_DB

_AROUND = 3
"""Rows on either side of one that is told of."""


def layer_table(location: Location, everything: bool = False) -> RenderableType:
    """One line per layer; without ``everything`` those around the one that is to blame."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", overflow="fold")
    table.add_column("operator")
    for column in ("SQNR", "limit", "unmoved", "limit"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    table.add_column("note", style="dim", overflow="fold")
    for row in _told(location, everything):
        table.add_row(
            row.layer,
            row.operator,
            _decibels(row.sqnr_db),
            _decibels(row.limit_db),
            _decibels(row.moved_db),
            _decibels(row.moved_limit_db),
            Text("within", "green") if row.within else Text("outside", "bold red"),
            row.note,
        )
    return table


def location_lines(location: Location, is_verified: bool) -> RenderableType:
    """What was found, in sentences."""
    lines = Text()
    where = f"{location.windows} windows of `{location.feed}`"
    if location.first is not None and not is_verified:
        lines.append(f"first outside: {_described(location.first)}\n", "bold red")
    elif location.first is not None:
        lines.append(
            f"the whole keeps parity, but not this layer: {_described(location.first)}\n",
            "yellow",
        )
    elif is_verified:
        lines.append(f"nothing to locate: every layer is within its limits, on {where}\n")
    else:
        lines.append(f"no layer is outside its limits, on {where}\n", "yellow")
    if location.nearest is not None and location.first is None:
        lines.append(f"nearest to its limit: {_described(location.nearest)}\n")
    if location.step is not None:
        row, before = location.step
        ratios = f"from {_decibels(before)} to {_decibels(row.sqnr_db)} dB"
        lines.append(f"most noise is added by {_named(row)}: {ratios}\n")
    for note in location.notes:
        lines.append(f"{note}\n", "dim")
    lines.append(
        f"ratios are told by sketches, to {DEVIATION_DB} dB (one standard deviation)", "dim"
    )
    return lines


def _told(location: Location, everything: bool) -> tuple[LayerRow, ...]:
    rows = location.rows
    if everything or len(rows) <= 2 * _AROUND + 1:
        return rows
    wanted = location.first or location.nearest
    at = next((i for i, row in enumerate(rows) if row is wanted), 0)
    if wanted is not None and rows[at] is not wanted:  # it is gone from the graph
        at = next((i for i, row in enumerate(rows) if row.has_moved), 0)
    return rows[max(0, at - _AROUND) : at + _AROUND + 1]


def _described(row: LayerRow) -> str:
    if row.note:
        return f"{_named(row)}: {row.note}"
    if row.has_moved:
        ratio = _decibels(row.moved_db)
        told = f"moved from what it was: {ratio} dB, limit {_decibels(row.moved_limit_db)}"
        return f"{_named(row)}: {told}"
    return f"{_named(row)}: {_decibels(row.sqnr_db)} dB, limit {_decibels(row.limit_db)}"


def _named(row: LayerRow) -> str:
    return f"{row.layer} ({row.operator} `{row.node}`)"


def _decibels(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if math.isfinite(value) else str(value)
