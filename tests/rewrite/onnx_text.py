"""Small graphs written as ONNX text, and what every rewrite has to keep."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from support import operators
from tcn_export.graph import Graph, Signature
from tcn_export.rewrite.base import Rewrite, run

HEADER = '<ir_version: 10, opset_import: ["" : 20]>'


def parse(text: str) -> Graph:
    """A graph from ONNX text, without the header; nodes are named after their first output."""
    model = ir.from_proto(onnx.parser.parse_model(f"{HEADER}\n{text}"))
    for node in model.graph:
        node.name = node.outputs[0].name
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True)
    onnx.checker.check_model(proto, full_check=True)
    return Graph(ir.from_proto(proto), Signature((), ()))


def evaluate(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    """Outputs for seeded noise; symbols become odd sizes."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in graph.model.graph.inputs:
        if value.name in graph.model.graph.initializers:
            continue
        sizes = [s if isinstance(s, int) else 3 + 8 * i for i, s in enumerate(value.shape)]
        feeds[value.name] = rng.standard_normal(sizes).astype(value.dtype.numpy())
    return ReferenceEvaluator(ir.to_proto(graph.model)).run(None, feeds)


def rewritten(rewrite: Rewrite, graph: Graph, tolerance: float) -> Graph:
    """Run a rewrite, check that it did something, keeps the numbers and is done after once.

    ``tolerance`` is relative to the largest output; 0 for rewrites that change no arithmetic.
    """
    before = evaluate(graph)
    text = onnx.printer.to_text(ir.to_proto(graph.model))
    result = run(rewrite, graph)
    assert onnx.printer.to_text(ir.to_proto(graph.model)) == text, "the input was changed"
    assert result.history[-1].modified >= 1
    for one, other in zip(before, evaluate(result), strict=True):
        np.testing.assert_allclose(
            other, one, rtol=0, atol=tolerance * max(1.0, np.abs(one).max())
        )
    again = run(rewrite, result)
    assert again.history[-1].modified == 0
    assert operators(again) == operators(result)
    return result


def refusal(rewrite: Rewrite, graph: Graph) -> str:
    """Run a rewrite that must leave the graph alone; its one reason."""
    text = onnx.printer.to_text(ir.to_proto(graph.model))
    result = run(rewrite, graph)
    assert onnx.printer.to_text(ir.to_proto(result.model)) == text
    step = result.history[-1]
    assert step.modified == 0
    assert len(step.refusals) == 1, step.refusals
    return step.refusals[0].reason
