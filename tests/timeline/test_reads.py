"""Where outputs read time; and what is not known where they have steps again."""

from __future__ import annotations

import pytest

from timeline.test_dependence import depends, odd

AGAIN = "which of them depends on which is not known"


@pytest.mark.parametrize(
    ("name", "node", "how"),
    [
        ("Flattened", "(Reshape)", "all steps, flattened"),
        (
            "Bottleneck",
            "`down/MatMul` (MatMul in the module `down`)",
            "a weighted sum over time",
        ),
    ],
)
def test_steps_that_the_analysis_lost_are_not_called_causal(name, node, how):
    found = odd(name)
    assert (found.causal, found.reach, found.looks_ahead) == (None, None, ())
    (refusal,) = found.refusals
    assert refusal.endswith(f"{node} ended time ({how}): {AGAIN}")
    assert "its answer has steps again" in refusal
    entries = found.to_json()
    assert entries["receptive_field"] is entries["lookahead"] is entries["causal"] is None
    assert (found.measured.lookback, found.measured.lookahead) == (None, None)
    assert found.measured.followed == found.measured.moved == 40


@pytest.mark.parametrize(
    ("changes", "how", "gathers"),
    [
        ({"head": "last"}, "the last step", False),
        ({"head": "only"}, "the only step", False),
        ({"head": "tail"}, "the last 3 steps", False),
        ({"head": "mean"}, "ReduceMean over time", True),
        ({"head": "every", "padding": "none", "length": 15}, "the last step", False),
        ({"head": "every", "dilations": [1], "strides": [4]}, "10 steps, 4 apart", False),
    ],
)
def test_reads_in_words(changes, how, gathers):
    (read,) = depends(**changes).reads
    assert (read.how, read.gathers) == (how, gathers)


def test_steps_are_called_the_last_ones_only_where_they_are():
    (read,) = odd("First").reads
    assert read.how == "10 steps"
    (read,) = odd("layer", layer="ConvTranspose1d", sizes=[2, 3, 4], stride=2).reads
    assert read.how == "ConvTranspose, which cannot be followed"
    (refusal,) = odd("layer", layer="LSTM", sizes=[2, 3], batch_first=True).refusals
    assert "it is recurrent" in refusal  # and not a second time, for its steps again
    found = depends("excited", head="every")
    assert found.reads[0].how == "every step"
    assert (found.measured.lookback, found.measured.lookahead) == (None, None)
    assert found.measured.followed == found.measured.moved
