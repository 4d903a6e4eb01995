"""When the values of a stream are computed, worked out by hand; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from streams import noise, plan, run, split
from tcn_export.errors import UnsupportedModelError, UsageError
from tcn_export.timeline.schedule import End, Flow, Intake
from timeline.odd_streams import CHANNELS, STEPS

FACTORY = "timeline.odd_streams:make"


def planned(kind, hop=1, mean=None):
    return plan(FACTORY, {"kind": kind}, CHANNELS, STEPS, hop, mean)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("GlobalMax", r"\(ReduceMax.*reads all steps of the window"),
        ("Mean", r"takes the mean over the whole window.*--mean running.*--mean window:W"),
        ("SqueezeExcite", r"takes the mean over the whole window"),
        (
            "Attention",
            r"\(MatMul.*compares steps of the signal with each other, as attention does",
        ),
        ("Recurrent", r"\(LSTM.*recurrent"),
        ("Group", r"cannot be streamed: .*(normalises over time|mixes time)"),
        ("Instance", r"\(InstanceNormalization.*normalises over time.*Use BatchNorm"),
        ("Reflected", r"\(Pad.*in the mode 'reflect'.*Pad with zeros"),
        ("Flattened", r"reads all steps of the window \(all steps, flattened\)"),
        ("FixedStep", r"reads step 7 of the window, and a stream has no window"),
        ("BeforeTheLast", r"reads step -2 of the window"),
        ("Positions", r"\(Add.*a number of its own for every step of the window"),
        ("LastAhead", r"looks ahead: in a window it sees the padding behind the end"),
        ("Averaged", r"first means leave the padding out. Set count_include_pad=True"),
        ("EveryOtherOfTheLast", r"in the middle, counted from the end of the window"),
        ("Reversed", r"chooses steps of the window"),
    ],
)
def test_what_needs_more_than_a_bounded_past_is_refused_by_node(kind, reason):
    with pytest.raises(UnsupportedModelError, match=reason) as refusal:
        planned(kind)
    assert "`" in str(refusal.value)


@pytest.mark.parametrize("mean", [0, 8])
def test_a_mean_that_is_spread_over_the_steps_again_is_refused(mean):
    with pytest.raises(UnsupportedModelError, match="gives every step what was read of the w"):
        planned("SqueezeExcite", mean=mean)


@pytest.mark.parametrize(("hop", "use"), [(1, 6), (3, 6), (2, 6), (8, 12)])
def test_a_hop_that_is_no_multiple_of_the_stride_is_told_the_next_one(hop, use):
    with pytest.raises(UsageError) as error:
        planned("Strided", hop)
    text = str(error.value)
    assert f"the hop is {hop}, but the network answers every 6 steps" in text
    assert ("`down`" if hop % 2 else "MaxPool") in text
    assert f"Use --hop {use}." in text


def of_output(made):
    return made.schedule.flows[made.window.model.graph.outputs[0]]


def intakes(made, operator):
    """How the nodes of an operator read their first input."""
    return [
        intake
        for (node, _, position), intake in made.schedule.intakes.items()
        if node.op_type == operator and position == 0
    ]


def states(made):
    return [pair.shape for pair in made.stream.signature.states]


def test_lookahead_delays_the_answer_and_the_branch_that_has_none():
    made = planned("Residual", hop=4)
    assert of_output(made) == Flow(steps=4, delay=2)
    assert intakes(made, "Conv") == [Intake(history=4, unused=0, is_padded=True)]
    assert intakes(made, "Add") == [Intake(history=2, unused=2, is_padded=False)]
    assert states(made) == [("batch", CHANNELS, 4)]  # one, for both


def test_a_residual_that_is_cropped_from_the_end_meets_a_kernel_without_padding():
    made = planned("Unpadded", hop=4)
    assert of_output(made) == Flow(steps=4, delay=4)
    assert made.schedule.unreached(made.window.model.graph.outputs[0]) == 0
    assert intakes(made, "Conv") == [Intake(history=4, unused=0, is_padded=False)]
    assert states(made) == [("batch", CHANNELS, 4)]


def test_dilation_is_kept_and_a_stride_needs_nothing_where_it_fits():
    made = planned("Dilated", hop=6)
    assert of_output(made) == Flow(steps=3, delay=0)
    assert intakes(made, "Conv") == [Intake(8, 0, True), Intake(0, 0, False)]
    assert states(made) == [("batch", CHANNELS, 8)]


@pytest.mark.parametrize("hop", [1, 2, 7])
def test_steps_that_a_crop_leaves_out_are_not_the_last_one(hop):
    made = planned("Cropped", hop)
    assert [*made.schedule.ends.values()] == [End("last", 1)]
    x = noise(2, CHANNELS, 42)
    answers = run(made.session(2), split(x, hop, [1] * (42 // hop)))
    for end in range(21, 43, 7):
        error = np.abs(answers[end // hop - 1] - made.eager(x[:, :, : end - end % hop])).max()
        assert error <= made.limit(x)


@pytest.mark.parametrize("hop", [1, 2, 5])
def test_the_last_steps_reach_back_over_several_hops(hop):
    made = planned("Tail", hop)
    assert [*made.schedule.ends.values()] == [End("last", 3)]
    x = noise(1, CHANNELS, 40)
    answers = run(made.session(), split(x, hop, [1] * (40 // hop)))
    error = np.abs(answers[-1] - made.eager(x)).max()
    assert error <= made.limit(x)
