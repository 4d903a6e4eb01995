"""What is told of a stream."""

from __future__ import annotations

import pytest

from tcn_export.report.stream import call_words, stream_lines

STREAM = {
    "mode": "stream",
    "hop": 2,
    "sample_rate_hz": 50.0,
    "states": [{}, {}],
    "outputs": [{"name": "logits", "delay": 3}, {"name": "last"}],
    "stream": {
        "form": "concat",
        "mean": "window:40",
        "state_bytes": 2048,
        "candidates": [
            {"form": "concat", "median_us": 31.2, "reason": ""},
            {"form": "ring", "median_us": None, "reason": "`pool` takes a mean"},
        ],
    },
}


def test_hop_states_delay_mean_and_what_was_not_taken_are_told():
    assert list(stream_lines(STREAM)) == [
        ("hop", "2 steps per call, 40 ms of the signal"),
        ("states", "2 states, 2.0 KB per stream (concat)"),
        ("delay", "logits: 3 steps of its own"),
        ("mean", "of the last 40 steps"),
        ("", "no ring: `pool` takes a mean"),
    ]
    assert call_words(STREAM) == "one hop"


@pytest.mark.parametrize(("mean", "told"), [("running", "of all steps so far"), (None, None)])
def test_a_mean_is_told_where_there_is_one(mean, told):
    entries = {**STREAM, "stream": {**STREAM["stream"], "mean": mean}}
    assert dict(stream_lines(entries)).get("mean") == told


def test_nothing_is_told_of_windows():
    assert list(stream_lines({"mode": "window", "stream": None})) == []
    assert call_words({"mode": "window"}) == "one window"
