"""What a manifest says of a stream: its hop, its states, what it answers late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def call_words(entries: Mapping[str, Any]) -> str:
    """What one call computes."""
    return "one hop" if entries["mode"] == "stream" else "one window"


def stream_lines(entries: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and texts about a stream; none for a bundle of windows.

    Args:
        entries: The content of a manifest.
    """
    stream = entries.get("stream")
    if stream is None:
        return
    rate = entries["sample_rate_hz"]
    yield "hop", _steps(entries["hop"], rate)
    count = len(entries["states"])
    size = f"{stream['state_bytes'] / 1024:.1f} KB per stream"
    yield "states", f"{count} state{'' if count == 1 else 's'}, {size} ({stream['form']})"
    for output in entries["outputs"]:
        if output.get("delay"):
            steps = "step" if output["delay"] == 1 else "steps"
            yield "delay", f"{output['name']}: {output['delay']} {steps} of its own"
    if stream["mean"] is not None:
        steps = stream["mean"].partition(":")[2]
        yield "mean", f"of the last {steps} steps" if steps else "of all steps so far"
    for candidate in stream["candidates"]:
        if candidate["median_us"] is None:
            yield "", f"no {candidate['form']}: {candidate['reason']}"
        elif candidate["form"] != stream["form"]:
            yield "", f"{candidate['form']}: {candidate['median_us']:.0f} us per hop"


def _steps(hop: int, rate: float | None) -> str:
    told = f"{hop} step{'' if hop == 1 else 's'} per call"
    return told if rate is None else f"{told}, {1000 * hop / rate:.4g} ms of the signal"
