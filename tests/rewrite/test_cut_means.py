"""Means over fewer steps, for what a stream is judged by."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from tcn_export.graph import Graph, Signature, TensorSpec
from tcn_export.rewrite.base import run
from tcn_export.rewrite.cut_means import Cut, CutMeans

MODEL = """
<ir_version: 9, opset_import: ["" : 18]>
mean (float[batch, 2, length] x) => (float[batch, 2] y)
<int64[1] axes = {2}>
{
  r = Relu(x)
  [pool] y = ReduceMean <keepdims = 0> (r, axes)
}
"""


def cut(**cuts):
    model = ir.from_proto(onnx.parser.parse_model(MODEL))
    for node in model.graph:
        node.name = node.op_type
    specs = (
        TensorSpec("x", "float32", ("batch", 2, "length"), 2),
        TensorSpec("y", "float32", ("batch", 2)),
    )
    graph = Graph(model, Signature(specs[:1], specs[1:]))
    return run(CutMeans(cuts), graph)


@pytest.mark.parametrize(("delay", "steps"), [(0, 3), (2, 0), (2, 3), (0, 99)])
def test_the_mean_is_taken_of_the_complete_steps_and_of_the_last_ones(delay, steps):
    graph = cut(ReduceMean=Cut(2, delay, steps))
    x = np.random.default_rng(0).standard_normal((2, 2, 9)).astype(np.float32)
    (y,) = ReferenceEvaluator(ir.to_proto(graph.model)).run(None, {"x": x})
    kept = np.maximum(x, 0)[:, :, : 9 - delay]
    kept = kept[:, :, -steps:] if steps else kept
    np.testing.assert_array_equal(y, kept.mean(2, dtype=np.float32))
    assert graph.history[-1].modified == 1


def test_a_mean_that_the_graph_has_not_is_a_fault_of_ours():
    with pytest.raises(AssertionError, match="other means"):
        cut(Nobody=Cut(2, 0, 3))
