"""A runner carries the states of a stream: zeros at first, fed back, reset."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.stateful import CHANNELS, stateful_graph, whole
from tcn_export.errors import BundleError, DataError
from tcn_export.parity.tolerance import float32_limit
from tcn_export.targets.base import Runner
from tcn_export.targets.onnxruntime import build, runner


def open_stream(hop: int = 1) -> Runner:
    return runner(build(stateful_graph(hop), "float32"), threads=1)


def stream(running: Runner, x: np.ndarray, hop: int = 1) -> np.ndarray:
    chunks = [x[:, :, start : start + hop] for start in range(0, x.shape[2], hop)]
    return np.concatenate([running.run({"x": chunk})["y"] for chunk in chunks], axis=2)


def signal(batch: int, steps: int, seed: int = 0) -> np.ndarray:
    shape = (batch, CHANNELS, steps)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(
    batch=st.integers(1, 3),
    hop=st.sampled_from([1, 2, 5, 16]),
    chunks=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_streamed_equals_whole(batch, hop, chunks, seed):
    x = signal(batch, hop * chunks, seed)
    truth = whole(x)
    error = np.abs(stream(open_stream(hop), x, hop) - truth).max()
    assert error <= float32_limit(0.0, float(np.abs(truth).max()))


def test_states_are_no_outputs():
    assert set(open_stream().run({"x": signal(1, 1)})) == {"y"}


def test_reset_begins_with_zeros_again():
    running, x = open_stream(), signal(1, 20)
    first = stream(running, x)
    assert not np.array_equal(stream(running, x), first), (
        "the second run sees the first's past"
    )
    running.reset()
    np.testing.assert_array_equal(stream(running, x), first)


def test_two_runners_share_no_state():
    one, other, x = open_stream(), open_stream(), signal(1, 20)
    first = stream(one, x)
    np.testing.assert_array_equal(stream(other, x), first)


def test_another_number_of_streams_needs_a_reset():
    running = open_stream()
    running.run({"x": signal(1, 1)})
    with pytest.raises(DataError, match=r"carries the state `past_0` .*\(1, 3, 2\).*reset"):
        running.run({"x": signal(2, 1)})
    running.reset()
    assert running.run({"x": signal(2, 1)})["y"].shape[0] == 2


def test_a_model_without_its_states_is_refused():
    artifact = build(stateful_graph(), "float32")
    states = (replace(artifact.signature.states[0], output="gone"),)
    signature = replace(artifact.signature, states=(*states, artifact.signature.states[1]))
    with pytest.raises(BundleError, match="does not give the states gone"):
        runner(replace(artifact, signature=signature))


def test_a_state_with_an_unknown_symbol_is_refused():
    artifact = build(stateful_graph(), "float32")
    first = replace(artifact.signature.states[0], shape=("streams", CHANNELS, 2))
    signature = replace(artifact.signature, states=(first, artifact.signature.states[1]))
    with pytest.raises(BundleError, match="the dimension 'streams', which no input has"):
        runner(replace(artifact, signature=signature)).run({"x": signal(1, 1)})
