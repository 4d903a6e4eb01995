"""float16 in a stream: states lose nothing, sums over the stream stay in float32."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from targets.streams import CASES, signals, streamed
from tcn_export.graph import Graph
from tcn_export.rewrite.base import run
from tcn_export.rewrite.half_precision import HalfPrecision
from tcn_export.targets import onnxruntime
from tcn_export.targets.intermediates import largest_values
from tcn_export.targets.streamed import StreamedRunner

MEANS = [name for name in CASES if "mean" in name and "pool" not in name]
LONG = 20_000
"""Steps whose sum, of answers around 10, float16 does not hold."""


def halved(name: str) -> Graph:
    graph, _ = streamed(CASES[name])
    copied = Graph(graph.model.clone(), graph.signature, graph.history)
    return run(
        HalfPrecision(largest_values(graph, [{"signal": signals(CASES[name])}])), copied
    )


def answers(graph: Graph, x: np.ndarray) -> np.ndarray:
    runner = onnxruntime.runner(onnxruntime.build(graph, "float16"), threads=1)
    (output,) = graph.signature.outputs
    return StreamedRunner(runner, graph.signature).run({"signal": x})[output.name]


@pytest.mark.parametrize("name", CASES)
def test_a_stream_in_float16_answers_nearly_the_same(name):
    graph, half = streamed(CASES[name])[0], halved(name)
    assert half.signature == graph.signature, "what a caller feeds and carries is float32"
    convolutions = [node for node in half.model.graph if node.op_type == "Conv"]
    assert {node.outputs[0].dtype for node in convolutions} == {ir.DataType.FLOAT16}
    x = signals(CASES[name], hops=24)
    expected = answers(graph, x)
    error = np.abs(answers(half, x) - expected).max()
    assert error <= 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("name", MEANS)
def test_nothing_that_adds_up_over_a_stream_is_in_float16(name):
    for node in halved(name).model.graph:
        if node.op_type in ("Sub", "Div", "ReduceSum", "Max"):
            assert node.outputs[0].dtype != ir.DataType.FLOAT16, node.name


def test_a_running_mean_outlasts_what_float16_holds():
    graph, half = streamed(CASES["running mean"])[0], halved("running mean")
    x = np.tile(signals(CASES["running mean"], batch=1), (1, 1, LONG // 64))
    expected = answers(graph, x)
    assert np.abs(answers(half, x) - expected).max() <= 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["every, hop 1", "looking ahead, hop 4", "running mean"])
def test_the_largest_values_of_a_stream_are_those_after_all_its_hops(name):
    """In the first hop nothing but zeros was before it; a later one sees what came."""
    graph, _ = streamed(CASES[name])
    x = signals(CASES[name])
    largest = largest_values(graph, [{"signal": x}])
    assert largest["signal"] == largest["past_signal"] == pytest.approx(np.abs(x).max())
    (output,) = graph.signature.outputs
    plain = answers(graph, x)
    assert largest[output.name] >= float(np.abs(plain).max()) * (1 - 1e-6)
