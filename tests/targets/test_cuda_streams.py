"""Streams on the target cuda: two buffers in turn, a captured graph for each."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from targets.streams import CASES, check_stream, signals, streamed
from tcn_export.targets import cuda
from tcn_export.targets.bound import BoundRunner
from tcn_export.targets.model_file import MODEL_FILE
from tcn_export.targets.onnxruntime import OnnxRuntimeRunner
from tcn_export.targets.session import session_options

STEPS = 10_000


def bound_on_the_cpu(graph, capture: bool) -> BoundRunner:
    """The runner of the target, its buffers in host memory."""
    model = cuda.build(graph, "float32").files[MODEL_FILE]
    session = ort.InferenceSession(
        model, session_options(1), providers=["CPUExecutionProvider"]
    )
    return BoundRunner(session, graph.signature, "cpu", capture)


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_two_banks_in_turn_answer_as_states_carried_by_hand(name, capture):
    graph, _ = streamed(CASES[name])
    model = cuda.build(graph, "float32").files[MODEL_FILE]
    running = bound_on_the_cpu(graph, capture)
    plain = OnnxRuntimeRunner(model, graph.signature, threads=1)
    (output,) = graph.signature.outputs
    for batch in (1, 2, 1):
        running.reset()
        plain.reset()
        x = signals(CASES[name], batch, hops=11, seed=batch)  # odd: either bank is read last
        for chunk in np.split(x, 11, axis=2):
            feeds = {"signal": np.ascontiguousarray(chunk)}
            expected = plain.run(feeds)[output.name]
            np.testing.assert_array_equal(running.run(feeds)[output.name], expected)


@pytest.mark.parametrize("name", ["every, hop 16", "running mean, looking ahead"])
def test_bound_states_hold_over_many_steps(name):
    graph, module = streamed(CASES[name])
    running = bound_on_the_cpu(graph, capture=True)
    check_stream(running, graph.signature, module, CASES[name], 2_000)


@pytest.mark.gpu
@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_stream_over_10000_steps(name, capture, cuda_device):
    graph, module = streamed(CASES[name])
    artifact = cuda.build(graph, "float32", {"cuda_graph": capture}, "stream")
    check_stream(cuda.runner(artifact), graph.signature, module, CASES[name], STEPS)
