"""What an export decided about precision, in words: coverage, the budget, candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_RANKED = 3
"""So many of the most harmful layers are named."""
_ISAS = {"vnni": "x86 with VNNI", "avx2": "x86 with or without VNNI", "arm64": "ARM, 64 bits"}


def quantization_lines(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values for a table, from ``quantization`` of a manifest."""
    yield "int8", _coverage(entry)
    kept = entry.get("in_float") or []
    if kept:
        yield "", f"kept in float32: {', '.join(kept)}"
    if entry.get("budget"):
        yield from _budget(entry["budget"])
    if entry.get("isa"):
        yield "made for", _ISAS.get(entry["isa"], entry["isa"])
    warning = saturation_words(entry)
    if warning is not None:
        yield "", warning


def candidate_lines(candidates: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Names and values for a table, from ``candidates`` of a manifest."""
    for candidate in candidates:
        mark = "taken" if candidate["chosen"] else "not taken"
        told = f"{candidate['precision']}: {candidate['median_us']:.0f} us, {mark}"
        yield "precision", f"{told}: {candidate['reason']}"


def recipe_words(recipe: Mapping[str, Any]) -> str:
    """How a graph was quantised, in a few words."""
    words = [str(recipe["calibration"])]
    if recipe.get("equalized"):
        words.append("channels equalised")
    if recipe.get("bias_corrected"):
        words.append("biases corrected")
    return ", ".join(words)


def calibrated_on(entry: Mapping[str, Any]) -> str:
    """What a graph was calibrated on."""
    if "streams" not in entry:
        return f"{entry['windows']} windows"
    count = entry["streams"]
    return f"{count} stream{'' if count == 1 else 's'}, with states carried"


def saturation_words(entry: Mapping[str, Any]) -> str | None:
    """One sentence about what saturates without VNNI; None where nothing does."""
    found = entry.get("saturation")
    if not found or not found["saturating"]:
        return None
    told = (
        "on a CPU without VNNI this file saturates in "
        f"{len(found['saturating'])} of {found['convolutions']} integer layers"
    )
    if found["lost_points"] is not None:
        lost = found["lost_points"]
        told += f" and {'loses' if lost >= 0 else 'gains'} {abs(lost):.1f} points"
    if found["changed"] is not None:
        told += f" ({found['changed']} of {found['windows']} windows answer otherwise)"
    return f"{told}; {found['advice']}"


def _coverage(entry: Mapping[str, Any]) -> str:
    coverage = entry["coverage"]
    integer, total = coverage["integer_convolutions"], coverage["convolutions"]
    done = f"{integer} of {total} convolutions on integers"
    left = coverage["left_in_float"]
    how = f"{recipe_words(entry)} over {calibrated_on(entry)}"
    named = bool(left) and not entry.get("in_float")
    return f"{done}, {how}" + (f"; in float: {', '.join(left)}" if named else "")


def _budget(budget: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    plain, *others = budget["tried"]
    upper = plain["upper_points"]
    first = "failed" if upper is None else f"may lose {upper:.2f} points"
    judged = f"{len(others)} more candidates judged, of at most {budget['looks']}"
    yield "budget", f"{budget['max_drop']:g} points; plain int8 {first}; {judged}"
    worst = [f"{x['layer']} {x['sqnr_db']} dB" for x in budget["layers"][:_RANKED]]
    yield "", f"alone in int8, the most harmful: {', '.join(worst)}"
    if budget["latency_us"]:
        yield "", price_words(budget["latency_us"])


def price_words(micros: Mapping[str, float]) -> str:
    """What the budget costs in latency, from ``budget.latency_us``."""
    told = ", ".join(f"{name} {value:.0f} us" for name, value in micros.items())
    gains = micros["chosen"] < micros["float32"]
    return (
        told if gains else f"{told}: no faster than float32, so float32 is the better choice"
    )
