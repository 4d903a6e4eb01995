"""What the outputs depend on, in words and drawn, from what manifests hold of it."""

from __future__ import annotations

import pytest

from tcn_export.report.dependence import cone_drawing, dependence_lines

MEASURED = {
    "windows": 3, "moved": 40, "together": 0, "silent": 0, "lookback": 14, "lookahead": 0,
}  # fmt: skip
CAUSAL = {
    "receptive_field": 15, "lookahead": 0, "causal": True, "sample_rate_hz": 50.0,
    "dependence": {
        "window": 40, "needed": 15, "lookback": 14, "stride": 1, "holes": 0,
        "reads": [{"output": "logits", "how": "the last step"}],
        "looks_ahead": [], "refusals": [], "warnings": [],
        "measured": MEASURED, "cone": None,
    },
}  # fmt: skip


MOVED = "40 steps of 3 random windows moved"
NO_MORE = " (the window holds no more)"
SILENT = "; 2 of them do not reach all that the graph lets them (dead units, zero weights)"


def told(measured=None, **changes):
    """The lines for altered entries, by name."""
    entries = {**CAUSAL, "dependence": dict(CAUSAL["dependence"])}
    for name, value in changes.items():
        place = entries if name in entries else entries["dependence"]
        place[name] = value
    entries["dependence"]["measured"] = {**MEASURED, **(measured or {})}
    return dict(dependence_lines(entries))


def test_a_causal_network_in_words():
    assert told() == {
        "reads": "logits: the last step",
        "receptive field": "15 steps (300 ms)",
        "lookahead": "none: causal",
        "window": "40 steps, 25 of them never read",
        "measured": f"{MOVED}: answers follow up to 14 steps later, none earlier",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("receptive field", {"holes": 3, "stride": 2, "sample_rate_hz": None},
         "15 steps, 3 of them holes, every 2 steps"),
        ("receptive field", {"receptive_field": None}, "not the same for every step"),
        ("receptive field", {"receptive_field": None, "refusals": ["`x`: no"]}, "not known"),
        ("lookahead", {"lookahead": 3, "causal": False}, "3 steps (60 ms): not causal"),
        ("lookahead", {"lookahead": None, "causal": False}, "not causal"),
        ("lookahead", {"lookahead": None, "causal": None}, "not known"),
        ("lookahead", {"lookahead": -1}, "none: causal, 1 step (20 ms) late"),
        ("", {"looks_ahead": ["`a/Pad`"]}, "looks ahead first: `a/Pad`"),
        ("", {"refusals": ["`x`: no"]}, "not followed: `x`: no"),
        ("reads", {"reads": []}, "nothing of the signal"),
        ("window", {"needed": 40}, "40 steps"),
        ("measured", {"measured": {"lookahead": 1}, "lookahead": 1},
         f"{MOVED}: answers follow up to 14 steps later, 1 step earlier"),
        ("measured", {"measured": {"lookback": 9}},
         f"{MOVED}: answers follow up to 9 steps later, none earlier{NO_MORE}"),
        ("measured", {"measured": {"silent": 2}},
         f"{MOVED}: answers follow up to 14 steps later, none earlier{SILENT}"),
        ("measured", {"measured": {"lookback": None, "lookahead": None}},
         f"{MOVED}, and no answer with them"),
    ],
)  # fmt: skip
def test_words_for_whatever_was_found(name, changes, words):
    assert told(**changes)[name] == words


def test_a_bundle_of_an_earlier_version_says_so_and_draws_nothing():
    old = {**CAUSAL, "dependence": None}
    ((name, words),) = dependence_lines(old)
    assert (name, words) == ("receptive field", "not analysed: exported by an earlier version")
    assert cone_drawing(old).plain == cone_drawing(CAUSAL).plain == ""


def row(drawn, layer="conv", needed=3, stride=1):
    return {
        "layer": layer, "taps": 3, "spacing": 4, "stride": stride, "needed": needed,
        "drawn": drawn,
    }  # fmt: skip


def drawing(first, per_column, rows, left_out=0):
    cone = {"first": first, "per_column": per_column, "rows": rows, "left_out": left_out}
    return cone_drawing({"dependence": {"cone": cone}}).plain.splitlines()


def test_a_drawing_has_names_numbers_and_a_scale():
    rows = [row("█████", "signal", 5), row("··█·█", "a.very.long.name.of.a.layer"),
            row("····█", stride=2)]  # fmt: skip
    assert drawing(-4, 1, rows) == [
        "signal             █████     5",
        "…g.name.of.a.layer ··█·█     3 k3 d4",
        "conv               ····█     3 k3 d4 s2",
        "                   -4  0",
        "a column is 1 step: █ needed for one answer, · not",
    ]


def test_a_drawing_shows_where_the_future_begins_and_what_was_left_out():
    lines = drawing(-70, 10, [row("█" * 20), row("·" * 20)], left_out=7)
    assert lines[1] == "... and 7 layers between"
    assert lines[3] == "                   -70    0        +129"
    assert lines[4].startswith("a column is 10 steps: █ all needed for one answer, ▒ some")


def test_a_drawing_fits_on_a_terminal():
    lines = drawing(-999, 23, [row("█" * 44, "blocks.10.convolution.conv", 12345, 32)] * 2)
    assert max(map(len, lines)) <= 80
