"""Receptive field, lookahead and causality: of the book, of the graph, and as measured."""

from __future__ import annotations

import pytest

from support import TINY_LENGTH, make_source
from tcn_export.capture import capture
from tcn_export.errors import UnsupportedModelError
from tcn_export.measuring import measure_dependence
from tcn_export.source.foreign import load_factory
from tcn_export.timeline import perturbing, windows
from tcn_export.timeline.passage import Window
from tcn_export.timeline.perturbing import DisagreementError
from user_networks import PLAIN

LENGTH = 40


def depends(factory="network", length=LENGTH, **changes):
    """What a network depends on, from the graph and as measured."""
    plain = PLAIN if factory == "network" else {}
    return of(f"user_networks:{factory}", {**plain, **changes}, (2, length))


def of(factory, arguments, input_shape):
    source = load_factory(factory, input_shape, arguments=arguments)
    return measure_dependence(source, capture(source, input_shape[1], 20))


READS = {
    # read as, receptive field, lookback, lookahead, stride, holes, steps that are needed
    "every": ("every step", 15, 14, 0, 1, 0, 40),
    "last": ("the last step", 15, 14, 0, 1, 0, 15),
    "only": ("the only step", 15, 14, 0, 1, 0, 15),
    "step": ("step 20", 15, 14, 0, 1, 0, 15),
    "tail": ("the last 3 steps", 15, 14, 0, 1, 0, 17),
    "mean": ("ReduceMean over time", 15, 14, 0, 1, 0, 40),
}


@pytest.mark.parametrize("padding", ["crop", "left", "none"])
@pytest.mark.parametrize("head", READS)
def test_a_causal_stack_is_causal_wherever_it_is_read_and_however_it_is_padded(head, padding):
    found = depends(head=head, padding=padding)
    (read,), reach = found.reads, found.reach
    how, *figures, needed = READS[head]
    if padding == "none":  # is 14 steps shorter, and its middle is another step
        how = {"every step": "the last 26 steps", "step 20": "step 13"}.get(how, how)
    assert read.how == how
    assert figures == [
        reach.receptive_field, reach.lookback, reach.lookahead, reach.stride, reach.holes,
    ]  # fmt: skip
    assert (found.causal, found.looks_ahead, found.refusals) == (True, (), ())
    assert found.needed == needed
    if head != "mean":
        assert (found.measured.lookback, found.measured.lookahead) == (14, 0)


@pytest.mark.parametrize("head", ["every", "last"])
def test_a_residual_that_leaks_one_step_is_not_causal_by_node(head):
    found = depends("leaking", head=head)
    assert (found.causal, found.reach.lookahead) == (False, 1)
    assert found.looks_ahead == (
        "`blocks.1.skip/Pad` (Pad in the module `blocks.1.skip`)",
    )  # fmt: skip
    # Of the last step the step after it is padding: nobody can measure it there.
    assert found.measured.lookahead == (1 if head == "every" else 0)


def test_the_first_of_many_kernels_that_look_ahead_is_named():
    found = depends(padding="same")
    assert (found.reach.lookback, found.reach.lookahead) == (7, 7)
    assert found.looks_ahead == (
        "`blocks.0.convs.0.conv/Conv` (Conv in the module `blocks.0.convs.0.conv`)",
    )


def test_skip_connections_are_read_together():
    found = depends(skips=True, head="last", residual=False, dilations=[4, 4, 4])
    assert found.reach.offsets() == [*range(-24, 1, 4)]
    assert found.reach.holes == 18


def test_a_gate_from_the_whole_window_is_not_causal_by_the_node_that_reads_it_all():
    for head in ("every", "last"):
        found = depends("excited", head=head)
        assert (found.causal, found.reach) == (False, None)
        assert found.looks_ahead == (
            "`blocks.1/ReduceMean` (ReduceMean in the module `blocks.1`)",
        )
        assert found.refusals == ()
        assert [read.how for read in found.reads] == [READS[head][0]]


def odd(name, **arguments):
    return of(f"timeline.mistaken_networks:{name}", arguments, (2, LENGTH))


def test_what_cannot_be_followed_is_neither_causal_nor_the_contrary():
    found = odd("Normed")
    assert (found.causal, found.reach, found.needed) == (None, None, LENGTH)
    assert "in the module `norm`" in found.refusals[0]
    assert found.to_json()["causal"] is None


@pytest.mark.parametrize(("name", "node"), [("LessTheLast", "`Sub`"), ("Reversed", "`Slice`")])
def test_steps_that_are_given_to_earlier_ones_look_ahead_by_node(name, node):
    found = odd(name)
    assert (found.causal, found.reach, found.refusals) == (False, None, ())
    assert [where.split(" ")[0] for where in found.looks_ahead] == [node]


def test_a_crop_on_the_wrong_side_is_named_and_not_the_pad_before_it():
    found = odd("WrongCrop")
    assert (found.causal, found.reach.lookahead, found.measured.lookahead) == (False, 2, 2)
    assert found.looks_ahead == ("`Slice` (Slice)",)


def test_a_difference_of_neighbours_is_causal_as_the_same_kernel_without_padding_is():
    found = odd("Difference")
    assert (found.causal, found.reach.lookback, found.reach.lookahead) == (True, 15, 0)
    assert (found.looks_ahead, found.measured.lookahead) == ((), 0)


def test_a_network_that_mixes_the_windows_of_a_batch_is_refused():
    with pytest.raises(
        UnsupportedModelError, match="depends on the other windows of its batch"
    ):
        odd("Mixed")


def test_what_the_graph_reaches_without_effect_is_counted():
    found = odd("Blind")
    assert (found.reach.lookback, found.measured.lookback) == (14, 13)
    assert 0 < found.measured.silent < found.measured.moved == LENGTH
    found = odd("Deaf")
    assert found.measured.silent == found.measured.moved == LENGTH
    assert (found.measured.lookback, found.measured.lookahead) == (None, None)


def narrow(monkeypatch, drop):
    """Have the analysis overlook some taps of every convolution."""
    whole = windows.window_of

    def blind(node, data):
        window = whole(node, data)
        return Window(window.stride, drop(window.offsets), window.behind)

    monkeypatch.setattr(windows, "window_of", blind)


def test_a_step_that_matters_and_that_the_analysis_denies_is_a_fault_of_ours(monkeypatch):
    narrow(monkeypatch, lambda offsets: offsets[1:] or offsets)
    with pytest.raises(DisagreementError, match=r"moving step \d+ of the signal moves step"):
        depends(head="every", residual=False)
    with pytest.raises(AssertionError, match="please report it with the network"):
        depends(head="last", residual=False)


@pytest.mark.parametrize("head", ["last", "every"])
def test_a_sample_of_steps_finds_a_fault_of_the_analysis_as_well(head, monkeypatch):
    monkeypatch.setattr(perturbing, "_MULTIPLICATIONS", 1.0)
    found = depends(head=head, length=200)
    assert (found.measured.lookback, found.measured.lookahead) == (14, 0)
    assert found.measured.moved < 40
    assert found.measured.together == (185 if head == "last" else 0)
    assert found.measured.silent == 0
    narrow(monkeypatch, lambda offsets: offsets[1:] or offsets)
    with pytest.raises(DisagreementError, match="of the signal moves step"):
        depends(head=head, length=200, residual=False)


def test_pruned_taps_are_told_as_steps_without_effect(monkeypatch):
    """The analysis reads the graph, and a weight of zero is a weight."""
    wide = windows.window_of
    monkeypatch.setattr(
        windows,
        "window_of",
        lambda node, data: Window(1, (-9, *wide(node, data).offsets), wide(node, data).behind),
    )
    found = depends(head="every", dilations=[1], strides=[1])
    assert found.measured.silent > 0
    assert found.measured.lookback == 2


def test_windows_that_are_too_short_or_too_long_are_told():
    short = depends(head="last", length=10)
    (warning,) = short.warnings
    assert "window of 10 steps is shorter than the receptive field of 15: 5 steps" in warning
    assert (short.measured.lookback, short.needed) == (9, 10)
    (warning,) = depends(head="last").warnings
    assert warning == (
        "25 of the 40 steps of the window are never read. Leave the first 25 out: --length 15."
    )
    assert depends(head="every").warnings == depends(head="mean").warnings == ()
    assert depends(head="last", length=16).warnings == ()
    (warning,) = depends(head="step").warnings
    assert warning == "25 of the 40 steps of the window are never read."  # many at the end


def test_a_symbolic_length_is_analysed_at_that_of_the_training(tmp_path):
    source = make_source(tmp_path / "model.pt")
    found = measure_dependence(source, capture(source, None, 20))
    assert (found.window, found.is_dynamic, found.warnings) == (TINY_LENGTH, True, ())
    assert (found.reach.receptive_field, found.causal) == (15, True)


def test_wide_reference_network_is_measured(shared_bench, monkeypatch):
    monkeypatch.syspath_prepend(shared_bench)
    found = of("user_models:tcn_wide", {}, (16, 1024))
    assert (found.reach.receptive_field, found.causal, found.needed) == (1023, True, 1023)
    assert (found.measured.lookback, found.measured.lookahead) == (1022, 0)
    assert (found.measured.silent, found.measured.together) == (0, 0)
    assert found.measured.moved >= 15


def test_an_answer_from_padding_alone_is_told():
    """Eight taps, 46 steps apart, miss a short window on both sides."""
    found = depends(
        head="only", dilations=[46], strides=[1], kernel=8, padding="same", residual=False,
        length=20,
    )  # fmt: skip
    assert (found.needed, found.cone, found.measured.lookback) == (0, None, None)
    assert "no step of the window can reach an answer" in found.warnings[-1]
