"""Chunked equals whole: any network, any hop, any split, from the first step on."""

from __future__ import annotations

import copy

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_architectures import CHANNELS, stream_networks
from streams import noise, plan, run, split
from support import NO_SHRINKING

FACTORY = "stream_networks:network"
ONE_BY_ONE = settings(phases=NO_SHRINKING, max_examples=settings().max_examples // 5)
"""Five properties share the examples of the profile: every one is a network of its own."""


def planned(network, mean=None):
    return plan(FACTORY, network.arguments, CHANNELS, network.length, network.hop, mean)


def signals(network, seed=0):
    """Three times as long as the window that was captured."""
    x = noise(network.streams, CHANNELS, 3 * network.length, seed)
    return x, split(x, network.hop, network.hops)


def check_every(network):
    """Compare all steps: a stream has all of the window's but those it says come later."""
    made = planned(network)
    x, chunks = signals(network)
    session = made.session(len(x))
    answers = np.concatenate(run(session, chunks), axis=2)
    (spec,) = session.signature.outputs
    answers, truth = answers[:, :, spec.delay :], made.eager(x)
    unreached = made.schedule.unreached(made.window.model.graph.outputs[0])
    assert answers.shape[2] == truth.shape[2] - unreached > 0
    error = np.abs(answers - truth[:, :, : answers.shape[2]])
    assert error.max() <= made.limit(x), f"at step {error.max((0, 1)).argmax()}"


@ONE_BY_ONE
@given(stream_networks())
def test_any_network_answers_every_step_of_a_stream_as_of_the_whole_signal(network):
    check_every(network)


def at_the_ends(chunks):
    """How many steps there were, after every chunk."""
    return np.cumsum([chunk.shape[2] for chunk in chunks])


def check_ends(network, mean=None):
    """Every answer is that to the whole signal until then."""
    made = planned(network, mean)
    x, chunks = signals(network)
    session = made.session(len(x))
    limit = made.limit(x)
    ends = at_the_ends(chunks)
    for end, answer in zip(ends, run(session, chunks), strict=True):
        if end >= network.length:  # before that the network itself may answer nothing
            error = np.abs(answer - made.eager(x[:, :, :end])).max()
            assert error <= limit, f"{error:g} of {limit:g} at {end} of {ends}"


@ONE_BY_ONE
@given(stream_networks(head="last", ahead=False))
def test_the_last_step_of_every_hop_is_that_of_the_signal_until_then(network):
    check_ends(network)


@ONE_BY_ONE
@given(stream_networks(head="mean", ahead=False))
def test_a_running_mean_is_that_of_the_whole_signal_until_then(network):
    check_ends(network, mean=0)


def check_mean(network, steps):
    """The mean of complete steps only: neither before step 0, nor of what is to come."""
    made = planned(network, steps)
    x, chunks = signals(network)
    session = made.session(len(x))
    double = copy.deepcopy(made.source.module).double()
    with torch.inference_mode():
        features = double.body(torch.from_numpy(x).double())
    ((node, _),) = made.schedule.ends.items()
    delay = made.schedule.flows[node.inputs[0]].delay
    limit = made.limit(x)
    for end, answer in zip(at_the_ends(chunks), run(session, chunks), strict=True):
        complete = end // network.stride - delay
        if complete <= 0:
            continue
        first = max(0, complete - steps) if steps else 0
        with torch.inference_mode():
            truth = double.head(features[:, :, first:complete].mean(-1)).numpy()
        assert np.abs(answer - truth).max() <= limit, end


@ONE_BY_ONE
@given(stream_networks(head="mean"), st.integers(1, 30))
def test_a_mean_of_the_last_steps_is_that_of_the_steps_that_are_complete(network, steps):
    check_mean(network, steps)


@ONE_BY_ONE
@given(stream_networks(head="mean", ahead=True))
def test_a_running_mean_behind_lookahead_is_that_of_the_steps_that_are_complete(network):
    check_mean(network, 0)
