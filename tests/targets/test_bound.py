"""Buffers that stay, states that never leave the device: run on the CPU as a device.

The runner is the one that CUDA gets; only the name of the device differs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import TINY_LENGTH, make_source
from targets.stateful import CHANNELS, stateful_graph, whole
from tcn_export.capture import capture
from tcn_export.errors import BundleError, DataError
from tcn_export.graph import Graph, Signature, TensorSpec
from tcn_export.parity.tolerance import float32_limit
from tcn_export.targets.base import Runner
from tcn_export.targets.bound import MOST_GRAPHS, MOST_SHAPES, BoundRunner
from tcn_export.targets.model_file import MODEL_FILE
from tcn_export.targets.onnxruntime import build, runner
from tcn_export.targets.session import session_options


def bound(graph: Graph, captures: bool = False, **signature: object) -> BoundRunner:
    artifact = build(graph, "float32")
    session = ort.InferenceSession(
        artifact.files[MODEL_FILE], session_options(1), providers=["CPUExecutionProvider"]
    )
    return BoundRunner(session, replace(graph.signature, **signature), "cpu", captures)


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
    captures=st.booleans(),
    seed=st.integers(0, 99),
)
def test_streamed_equals_whole(batch, hop, chunks, captures, seed):
    x = signal(batch, hop * chunks, seed)
    truth = whole(x)
    error = np.abs(stream(bound(stateful_graph(hop), captures), x, hop) - truth).max()
    assert error <= float32_limit(0.0, float(np.abs(truth).max()))


def test_it_computes_what_the_unbound_runner_computes(tmp_path):
    graph = capture(make_source(tmp_path / "model.pt"), TINY_LENGTH, 20)
    plain, running = runner(build(graph, "float32"), threads=1), bound(graph)
    rng = np.random.default_rng(0)
    for batch in (1, 4, 1, 2, 4):  # buffers are found again, and hold nothing of before
        x = {"signal": rng.standard_normal((batch, 3, TINY_LENGTH)).astype(np.float32)}
        np.testing.assert_array_equal(running.run(x)["logits"], plain.run(x)["logits"])


def test_answers_outlive_the_next_call():
    running = bound(stateful_graph())
    first = running.run({"x": signal(1, 1, 0)})["y"]
    kept = first.copy()
    running.run({"x": signal(1, 1, 1)})
    np.testing.assert_array_equal(first, kept)


def test_inputs_that_are_views_are_read_rightly():
    x = signal(1, 40)
    running, again = bound(stateful_graph(20)), bound(stateful_graph(20))
    backwards = x[:, :, ::-1]
    np.testing.assert_array_equal(
        stream(running, backwards, 20), stream(again, np.ascontiguousarray(backwards), 20)
    )


def test_no_buffer_is_read_and_written_by_one_call():
    running = bound(stateful_graph())
    running.run({"x": signal(1, 1)})
    (first, second), (third, fourth) = (
        ([v.data_ptr() for v in read.values()], [v.data_ptr() for v in written.values()])
        for read, written in running._states.turns()
    )
    assert not set(first) & set(second)
    assert (second, first) == (third, fourth)


def test_states_are_no_outputs():
    assert set(bound(stateful_graph()).run({"x": signal(1, 1)})) == {"y"}


@pytest.mark.parametrize("steps", [19, 20])  # either bank was read last
def test_reset_begins_with_zeros_again(steps):
    running, x = bound(stateful_graph()), signal(1, steps)
    first = stream(running, x)
    assert not np.array_equal(stream(running, x), first), "it must see its past"
    running.reset()
    np.testing.assert_array_equal(stream(running, x), first)


def test_another_number_of_streams_needs_a_reset():
    running, x = bound(stateful_graph()), signal(2, 10)
    running.run({"x": signal(1, 1)})
    with pytest.raises(DataError, match=r"carries the state `past_0` .*\(1, 3, 2\).*reset"):
        running.run({"x": x[:, :, :1]})
    running.reset()
    np.testing.assert_array_equal(stream(running, x), stream(bound(stateful_graph()), x))


def test_a_call_that_is_refused_leaves_the_states_alone():
    running, other, x = bound(stateful_graph()), bound(stateful_graph()), signal(1, 20)
    expected = stream(other, x)
    first = stream(running, x[:, :, :7])
    with pytest.raises(DataError):
        running.run({"x": signal(2, 1)})
    second = stream(running, x[:, :, 7:])
    np.testing.assert_array_equal(np.concatenate([first, second], axis=2), expected)


def test_more_shapes_than_keep_buffers_are_answered_still():
    running = bound(_doubling(), captures=True)
    for size in [*range(1, MOST_GRAPHS + 5), 1, 2]:
        x = np.full((size, 2), size, np.float32)
        np.testing.assert_array_equal(running.run({"x": x})["y"], 2 * x)
    assert len(running._bound) == MOST_SHAPES


def test_every_capture_has_a_number_of_its_own_until_they_run_out():
    running = bound(stateful_graph(), captures=True)
    numbers = []
    for size in range(1, 2 * MOST_GRAPHS):
        running.reset()
        running.run({"x": signal(size, 1)})
        (one,) = running._bound.values()
        numbers += [o.get_run_config_entry("gpu_graph_id") for _, o in one.turns]
    assert numbers[:MOST_GRAPHS] == [str(n) for n in range(1, MOST_GRAPHS + 1)]
    assert set(numbers[MOST_GRAPHS:]) == {"-1"}


def test_an_output_of_unforeseeable_size_is_made_by_the_runtime():
    graph, x = _nonzero(), np.array([[0, 3, 0, 4]], np.float32)
    running = bound(graph)
    assert running.run({"x": x})["y"].tolist() == [[0, 0], [1, 3]]
    assert running.run({"x": x * 0})["y"].shape == (2, 0)


def test_a_cuda_graph_needs_to_know_the_size_of_every_output():
    with pytest.raises(BundleError, match=r"`y` .*a size that no input has.*--cuda-graph"):
        bound(_nonzero(), captures=True).run({"x": np.ones((1, 4), np.float32)})


def test_a_model_without_its_states_is_refused():
    first, second = stateful_graph().signature.states
    with pytest.raises(BundleError, match="does not give the states gone"):
        bound(stateful_graph(), states=(replace(first, output="gone"), second))


def test_a_state_of_another_shape_than_the_model_has_is_an_error():
    first, second = stateful_graph().signature.states
    running = bound(stateful_graph(), states=(replace(first, shape=("batch", 3, 4)), second))
    with pytest.raises(BundleError, match="cannot run the model"):
        running.run({"x": signal(1, 1)})


def _graph(
    text: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> Graph:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {text}')
    return Graph(ir.from_proto(model), Signature(inputs, outputs))


def _doubling() -> Graph:
    spec = ("float32", ("batch", 2))
    return _graph(
        "g (float[batch,2] x) => (float[batch,2] y) { y = Add(x, x) }",
        (TensorSpec("x", *spec),),
        (TensorSpec("y", *spec),),
    )


def _nonzero() -> Graph:
    return _graph(
        "g (float[batch,4] x) => (int64[2,n] y) { y = NonZero(x) }",
        (TensorSpec("x", "float32", ("batch", 4)),),
        (TensorSpec("y", "int64", (2, "n")),),
    )
