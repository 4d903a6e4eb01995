"""What the outputs depend on, in words and drawn, from what manifests hold of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcn_export import manifest, structure
from tcn_export.report.dependence import TOLD_TOGETHER, cone_drawing, dependence_lines

MEASURED = {
    "windows": 3, "moved": 40, "together": 0, "silent": 0, "followed": 40, "lookback": 14,
    "lookahead": 0,
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
GATHERS = [{"output": "logits", "how": "ReduceMean over time", "gathers": True}]
BOUND = (
    "; 2 of them do not reach all that the graph lets them (the graph could not be followed "
    "there, so this is an upper bound)"
)
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
        ("measured", {"measured": {"followed": 0, "lookback": None, "lookahead": None}},
         f"{MOVED}, and no answer with them"),
        ("measured", {"reads": GATHERS, "measured": {"lookback": 9}},
         f"{MOVED}: every one moved an answer"),
        ("measured", {"reads": GATHERS, "measured": {"followed": 37}},
         f"{MOVED}: 3 of them moved no answer"),
        ("measured", {"reads": GATHERS, "measured": {"followed": 37, "silent": 3}},
         f"{MOVED}: 3 of them moved no answer (dead units, zero weights)"),
        ("measured", {"reads": GATHERS, "measured": {"followed": 0}},
         f"{MOVED}, and no answer with them"),
        ("measured", {"refusals": ["`x`: no"], "measured": {"silent": 2, "lookback": None}},
         f"{MOVED}: every one moved an answer{BOUND}"),
        ("measured", {"measured": {"lookback": 15}},
         f"{MOVED}: answers follow up to 15 steps later, none earlier"),
        ("window", {"is_dynamic": True}, "any length; e.g. 40 steps here"),
        ("window", {"window": 1, "needed": 1}, "1 step"),
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


def drawing(first, per_column, rows, left_out=0, reads=()):
    cone = {"first": first, "per_column": per_column, "rows": rows, "left_out": left_out}
    return cone_drawing({"dependence": {"cone": cone, "reads": reads}}).plain.splitlines()


def test_a_drawing_has_names_numbers_and_a_scale():
    rows = [row("█████", "signal", 5), row("··█·█", "a.very.long.name.of.a.layer"),
            row("····█", stride=2)]  # fmt: skip
    assert drawing(-4, 1, rows) == [
        "signal             █████     5",
        "…name.of.a.layer   ··█·█     3 k3 d4",
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


@pytest.mark.parametrize(
    ("layer", "label"),
    [
        ("blocks.0.body.conv1", "…0.body.conv1"),
        ("encoder.blocks.0.body.conv1", "…0.body.conv1"),
        ("net.a_name_of_eighteen", "…_name_of_eighteen"),
        ("one_name_without_any_dot", "…e_without_any_dot"),
        ("eighteen.characters", "…characters"),
        ("a.seventeen.letters", "…seventeen.letters"),
        ("short.conv", "short.conv"),
    ],
)
def test_names_of_layers_begin_at_a_dot_where_they_are_cut(layer, label):
    shown = drawing(-4, 1, [row("█████", layer), row("····█")])[0].split(" ")[0]
    assert shown == label


@pytest.mark.parametrize(("per_column", "words"), [(1, "needed"), (10, "all needed")])
def test_of_answers_that_gather_steps_one_that_is_read_is_drawn(per_column, words):
    lines = drawing(-70, per_column, [row("█" * 20)], reads=GATHERS)
    assert f"█ {words} for one step that is read" in lines[-1]


NUMBERS = st.integers(-3, 60) | st.integers(1 - 2**53, 2**53 - 1)
WORDS = st.text(st.sampled_from("ab.█· "), max_size=25)


def made_of(form):
    """Anything that may stand in a manifest where this form is asked for."""
    if isinstance(form, dict):
        known = {k: f for k, f in form.items() if not isinstance(f, structure.Maybe)}
        later = {k: f.form for k, f in form.items() if isinstance(f, structure.Maybe)}
        return st.fixed_dictionaries(
            {key: made_of(one) for key, one in known.items()},
            optional={key: made_of(one) for key, one in later.items()},
        )
    if isinstance(form, list):
        return st.lists(made_of(form[0]), max_size=3)
    if isinstance(form, tuple):
        return st.one_of(map(made_of, form))
    kinds = {None: st.none(), bool: st.booleans(), structure.TEXT: WORDS}
    kinds[structure.NUMBER] = st.floats(allow_nan=False, allow_infinity=False)
    return kinds.get(form, NUMBERS)


FORM = {name: manifest._FORM[name] for name in (*TOLD_TOGETHER, "sample_rate_hz")}
FORM["dependence"] = manifest._DEPENDENCE


@given(made_of(FORM))
def test_whatever_has_the_form_of_a_manifest_is_printed(entries):
    try:
        structure.check(entries, FORM, "manifest")
    except ValueError:
        return
    assert dependence_lines(entries)
    cone_drawing(entries)
