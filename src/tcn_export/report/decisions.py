"""What was decided on the way, and at which price: the bars and tables of a page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tcn_export.report.facts import MICROSECONDS, coverage_line
from tcn_export.report.quantization import calibrated_on
from tcn_export.report.words import decibel, number

_MOST_CLASSES = 30


@dataclass(frozen=True, slots=True)
class Bar:
    """A labelled bar, its length in percent of the longest."""

    name: str
    value: str
    length: float
    tone: str = ""
    note: str = ""
    limit_at: float | None = None


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts by true class (rows) and answered class (columns)."""

    title: str
    classes: tuple[str, ...]
    cells: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[float, ...], ...]
    changes: tuple[tuple[int, ...], ...]


def layer_bars(entries: Mapping[str, Any]) -> list[Bar]:
    """Noise of every layer, in graph order; the first outside its limit is marked."""
    layers = entries["parity"].get("layers") or ()
    both = [number(entry[key]) for entry in layers for key in ("sqnr_db", "limit_db")]
    finite = [value for value in both if math.isfinite(value)]
    top = max([*finite, 1.0])
    bars, is_first = [], True
    for entry in layers:
        value, limit = number(entry["sqnr_db"]), number(entry["limit_db"])
        note = ""
        if not entry["within"] and is_first:
            note, is_first = "the first outside its limit", False
        bars.append(
            Bar(
                f"{entry['layer'] or entry['node']} {entry['operator']}",
                decibel(value),
                _length(value, top),
                "good" if entry["within"] else "bad",
                note,
                _length(limit, top),
            )
        )
    return bars


def latency_bars(entries: Mapping[str, Any]) -> list[tuple[str, list[Bar]]]:
    """Groups of times, each with what it compares."""
    groups: list[tuple[str, list[tuple[str, float, str, str]]]] = []
    latency, layout = entries["latency"], entries["layout"]
    if latency is not None:
        told = f"this artifact, {latency['calls']} calls on {latency['threads']} thread"
        quantiles = (("median", "median_us"), ("90 %", "p90_us"), ("99 %", "p99_us"))
        groups.append((told, [(name, latency[key], "", "") for name, key in quantiles]))
    if layout is not None:
        rows = [
            (e["name"], e["median_us"], *_chosen(e["name"] == layout["choice"], ""))
            for e in layout["candidates"]
        ]
        groups.append(("forms of the graph, median", rows))
    measured = [e for e in entries.get("candidates") or () if e["median_us"] is not None]
    if measured:
        rows = [
            (candidate_name(e), e["median_us"], *_chosen(e["chosen"], e.get("reason") or ""))
            for e in measured
        ]
        groups.append(("precisions, median", rows))
    prices = (((entries["quantization"] or {}).get("budget") or {}).get("latency_us")) or {}
    known = [(name, us, "", "") for name, us in prices.items() if us is not None]
    if known:
        groups.append(("the price of the accuracy budget, median", known))
    return [(title, list(_bars(rows))) for title, rows in groups]


def candidate_name(entry: Mapping[str, Any]) -> str:
    """A precision, and how many layers of it stayed in float32."""
    kept = len(entry.get("in_float") or ())
    return str(entry["precision"]) + (f", {kept} layers in float32" if kept else "")


def _chosen(is_chosen: bool, reason: str) -> tuple[str, str]:
    told = "chosen" if is_chosen else ""
    return ("good" if is_chosen else ""), "; ".join(filter(None, (told, reason)))


def _bars(rows: Iterable[tuple[str, float, str, str]]) -> Iterable[Bar]:
    rows = list(rows)
    longest = max((us for _, us, _, _ in rows), default=0.0) or 1.0
    for name, us, tone, note in rows:
        yield Bar(name, f"{us:.1f} {MICROSECONDS}", _length(us, longest), tone, note)


def confusions(entries: Mapping[str, Any]) -> list[Confusion]:
    """Confusion matrices of the eager model and of the artifact, on the same windows."""
    scores = entries["parity"].get("scores") or {}
    if not (scores.get("reference") or {}).get("confusion"):
        return []
    before, after = (scores[side].get("confusion", []) for side in ("reference", "actual"))
    names = tuple(str(e["name"]) for e in scores["reference"]["classes"])
    sizes = {len(names), len(before), len(after), *map(len, before), *map(len, after)}
    if len(names) > _MOST_CLASSES or len(sizes) > 1:
        return []
    none = [[0] * len(row) for row in before]
    moved = [
        [b - a for a, b in zip(*rows, strict=True)] for rows in zip(before, after, strict=True)
    ]
    return [
        _confusion("PyTorch", names, before, none),
        _confusion("artifact", names, after, moved),
    ]


def _confusion(
    title: str, names: tuple[str, ...], cells: list[list[int]], changes: list[list[int]]
) -> Confusion:
    totals = [sum(row) or 1 for row in cells]
    shares = (
        tuple(round(cell / total, 3) for cell in row)
        for row, total in zip(cells, totals, strict=True)
    )
    return Confusion(
        title, names, tuple(map(tuple, cells)), tuple(shares), tuple(map(tuple, changes))
    )


def quantization_lines(entries: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was decided when the graph became int8."""
    found = entries["quantization"]
    if found is None:
        return []
    how = ", ".join([found["calibration"], *_improved(found)])
    lines = [
        ("on integers", coverage_line(found)),
        ("calibration", f"{how}, over {calibrated_on(found)}"),
    ]
    if found.get("dialect"):
        lines.append(("made for", str(found["dialect"])))
    lines += _budget_lines(found.get("budget"))
    return lines + _saturation_lines(found.get("saturation"))


def _improved(recipe: Mapping[str, Any]) -> list[str]:
    """What was done before the ranges were chosen."""
    kinds = ("equalized", "bias_corrected")
    return [kind.replace("_", " ") for kind in kinds if recipe.get(kind)]


def _budget_lines(budget: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if budget is None:
        return []
    kept, recipe = budget["in_float"], budget["recipe"]
    how = [str(recipe["calibration"]), *_improved(recipe)]
    lines = [
        ("accuracy budget", f"{budget['max_drop']:g} points"),
        ("recipe", ", ".join(how)),
        ("kept in float32", ", ".join(kept) or "nothing"),
    ]
    for entry in budget["tried"]:
        told = f"{entry['in_float']} layers in float32"
        if entry.get("lost_points") is not None:
            told += f", {entry['lost_points']:+.2f} points seen"
        if entry.get("upper_points") is not None:
            told += f", at most {entry['upper_points']:.2f}"
        lines.append((f"tried {_recipe(entry['recipe'])}", f"{told}: {entry['verdict']}"))
    return lines


def damage_bars(entries: Mapping[str, Any]) -> list[Bar]:
    """Layers by the damage that each does alone, the worst first."""
    budget = (entries["quantization"] or {}).get("budget")
    layers = (budget or {}).get("layers") or ()
    values = [number(entry["sqnr_db"]) for entry in layers]
    top = max([v for v in values if math.isfinite(v)] + [1.0])
    kept = (budget or {}).get("in_float") or ()
    return [
        Bar(
            entry["layer"] or entry["node"],
            decibel(value),
            _length(value, top),
            "" if entry["layer"] in kept else "good",
            "kept in float32" if entry["layer"] in kept else "",
        )
        for entry, value in zip(layers, values, strict=True)
    ]


def _recipe(recipe: Any) -> str:
    if not isinstance(recipe, Mapping):
        return str(recipe)
    return ", ".join(str(k if v is True else v) for k, v in recipe.items() if v)


def _saturation_lines(found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    told = f"{len(found['saturating'])} of {found['convolutions']} integer layers saturate"
    if found.get("lost_points") is not None:
        told += f", {found['lost_points']:+.2f} points"
    lines = [("on x86 without VNNI", told)]
    lines += [
        ("", f"{entry['layer']}: {100 * entry['share']:.2g} % of its sums")
        for entry in found["saturating"]
    ]
    return [*lines, ("advice", str(found["advice"]))] if found.get("advice") else lines


def _length(value: float, longest: float) -> float:
    if math.isnan(value):
        return 0.0
    return round(100 * min(max(value / longest, 0.0), 1.0), 2)
