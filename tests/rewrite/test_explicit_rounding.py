"""Is float16 arithmetic computed where ONNX Runtime alone would compute float32?"""

from __future__ import annotations

import warnings

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from rewrite.onnx_text import parse
from support import make_source, operators
from tcn_export.capture import capture
from tcn_export.errors import UnsupportedModelError
from tcn_export.models.tcn import TCNConfig
from tcn_export.parity.metrics import sqnr_db
from tcn_export.rewrite.base import run, run_plan
from tcn_export.rewrite.explicit_rounding import ExplicitRounding
from tcn_export.rewrite.half_precision import HalfPrecision
from tcn_export.rewrite.plans import ONNX
from tcn_export.targets import rounding
from tcn_export.targets.rounding import check_roundings_are_kept

CHAIN = """
    g (float[N,4,L] x) => (float[N,4,L] y) <float k = {1.001}, float b = {0.3}> {
        n = Neg (x)
        a = Mul (n, k)
        c = Add (a, b)
        d = Relu (c)
        e = Div (d, k)
        y = Mul (e, a)
    }"""


def on_cpu(graph, x):
    session = ort.InferenceSession(
        ir.to_proto(graph.model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (name,) = (value.name for value in session.get_inputs())
    return session.run(None, {name: x})[0].astype(np.float64)


def reference(graph, x):
    """What the ONNX specification's own evaluator computes, node by node in float16."""
    (name,) = (value.name for value in graph.model.graph.inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # overflow is what is asked about
        outputs = ReferenceEvaluator(ir.to_proto(graph.model)).run(None, {name: x})
    return outputs[0].astype(np.float64)


def test_onnx_runtime_rounds_as_the_specification_does():
    half = run(HalfPrecision({}), parse(CHAIN))
    x = np.random.default_rng(0).standard_normal((2, 4, 500)).astype(np.float32)
    rounded = run(ExplicitRounding(), half)
    np.testing.assert_array_equal(on_cpu(rounded, x), reference(half, x))
    assert sqnr_db(on_cpu(half, x), reference(half, x)) < 75, "why this rewrite exists"


def test_overflow_is_seen():
    text = "g (float[N,1,4] x) => (float[N,1,4] y) { s = Relu (x)\n y = Add (s, s) }"
    half = run(HalfPrecision({}), parse(text))
    x = np.full((1, 1, 4), 4e4, np.float32)
    assert np.isinf(on_cpu(run(ExplicitRounding(), half), x)).all()
    assert np.isinf(reference(half, x)).all()


def test_rounding_stands_behind_each_node_that_rounds():
    half = run(HalfPrecision({}), parse(CHAIN))
    result = run(ExplicitRounding(), half)
    written_out = ["Cast", "Concat", "Cast"]
    assert operators(result) == [
        *written_out,
        "Neg",  # of float16 numbers it makes float16 numbers
        *("Mul", *written_out),
        *("Add", *written_out),
        "Relu",
        *("Div", *written_out),
        *("Mul", *written_out),
    ]
    constants = {
        v.name: v.const_value.numpy() for v in result.model.graph.initializers.values()
    }
    assert constants["k.float16"] == np.float32(np.float16(1.001))
    again = run(ExplicitRounding(), result)
    assert again.history[-1].modified == 0
    assert operators(again) == operators(result)


def test_graph_without_float16_is_left_alone():
    result = run(ExplicitRounding(), parse(CHAIN))
    assert result.history[-1].modified == 0
    assert operators(result) == operators(parse(CHAIN))


@pytest.mark.parametrize("head", ["last", "every", "mean"])
def test_network_is_rounded_as_the_specification_says(head, tmp_path):
    config = TCNConfig(
        in_channels=3, outputs=4, widths=(8,) * 3, dilations=(1, 2, 4), head=head
    )
    source = make_source(tmp_path / "m.pt", config)
    graph = run_plan(ONNX, capture(source, 24, 20))
    half = run(HalfPrecision({}), graph)
    x = np.random.default_rng(0).standard_normal((64, 3, 24)).astype(np.float32)
    truth = on_cpu(graph, x)
    ours, specified, as_it_is = (
        sqnr_db(y, truth)
        for y in (
            on_cpu(run(ExplicitRounding(), half), x),
            reference(half, x),
            on_cpu(half, x),
        )
    )
    assert ours == pytest.approx(specified, abs=3)  # the order of sums differs
    assert as_it_is > ours + 1.5


def test_runtime_that_does_not_round_is_found_out(monkeypatch):
    check_roundings_are_kept()
    monkeypatch.setattr(rounding, "run", lambda _, graph: graph)
    with pytest.raises(UnsupportedModelError, match="does not round to float16"):
        check_roundings_are_kept()
