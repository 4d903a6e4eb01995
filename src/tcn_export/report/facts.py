"""What a manifest says in a few figures: scores, what quantisation did, size and speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tcn_export.report.stream import call_words, stream_lines
from tcn_export.report.words import figure, percent

MICROSECONDS = "\u00b5s"


def facts(entries: Mapping[str, Any]) -> dict[str, str]:
    """Names and texts, in the order to show; what a bundle does not know is left out.

    Args:
        entries: The content of a manifest.
    """
    found = {"artifact": f"{entries['target']} {entries['precision']}"}
    scores = entries["parity"].get("scores")
    if scores is not None:
        found["score"] = score_change(scores)
    loss = entries["parity"].get("loss")
    if loss is not None:
        found["loss"] = loss_line(loss)
    found |= {name: told for name, told in stream_lines(entries) if name}
    quantization = entries["quantization"]
    if quantization is not None:
        found["on integers"] = coverage_line(quantization)
    latency = entries["latency"]
    if latency is not None:
        times = (f"{latency[f'{at}_us']:.0f} {MICROSECONDS} {at}" for at in ("median", "p99"))
        where = f"{latency['threads']} thread, {call_words(entries)}, {entries['host']['cpu']}"
        found["latency"] = f"{', '.join(times)} ({where})"
    data = entries["parity"]["data"]
    if data is not None:
        kind = "labelled" if data["labelled"] else "unlabelled"
        found["judged on"] = f"{data['windows']} {kind} windows of {data['name']}"
    return found


def score_change(scores: Mapping[str, Any]) -> str:
    """Score of the eager model and of the artifact."""
    before, after = scores["reference"], scores["actual"]
    if "accuracy" in before and "accuracy" in after:
        return (
            f"accuracy {percent(before['accuracy'])} → {percent(after['accuracy'])}, "
            f"macro-F1 {before['macro_f1']:.3f} → {after['macro_f1']:.3f}"
        )
    names = [
        name
        for name in ("rmse", "mae", "r2")
        if None not in (before.get(name), after.get(name))
    ]
    return ", ".join(
        f"{name.upper().replace('R2', 'R²')} {figure(before[name])} → {figure(after[name])}"
        for name in names
    )


def loss_line(loss: Mapping[str, Any]) -> str:
    """What was lost, with its bound, and on how much evidence."""
    told = f"{loss['lost_points']:+.2f} points seen"
    if loss.get("upper_points") is not None:
        confidence = (
            100 * loss["confidence"] if loss["confidence"] <= 1 else loss["confidence"]
        )
        told += f", at most {loss['upper_points']:.2f} with {confidence:g} % confidence"
    told += f"; {loss['windows']} windows"
    if loss.get("changed") is not None:
        told += f", {loss['changed']} changed their answer"
    if (loss.get("needed_windows") or 0) > loss["windows"]:
        told += f"; a decision needs about {loss['needed_windows']} windows"
    return told


def coverage_line(quantization: Mapping[str, Any]) -> str:
    """How many convolutions run on integers, and what stayed in float32."""
    coverage = quantization["coverage"]
    told = f"{coverage['integer_convolutions']} of {coverage['convolutions']} convolutions"
    left = [*coverage["left_in_float"], *quantization.get("in_float", ())]
    return told + (f"; in float32: {', '.join(dict.fromkeys(left))}" if left else "")
