"""What is arithmetic of shapes, and what of signals, in models that say it and in others."""

from __future__ import annotations

import contextlib

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcn_export.targets.node_types import integer_nodes

_TEXT = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[batch,3,length] x) => (float[batch,n] y) <int64[1] one = {1}>
{
    shape = Shape(x)
    steps = Gather<axis = 0>(shape, one)
    number = Cast<to = 1>(steps)
    scaled = Mul(x, number)
    picked = ArgMax<axis = 2>(scaled)
    target = Neg(one)
    y = Reshape(scaled, shape)
}
"""


def model(inferred: bool = True) -> onnx.ModelProto:
    parsed = onnx.parser.parse_model(_TEXT)
    for node in parsed.graph.node:
        node.name = node.output[0]
    return onnx.shape_inference.infer_shapes(parsed) if inferred else parsed


def test_nodes_that_read_only_integers_or_a_shape_are_found():
    found = integer_nodes(model().SerializeToString())
    assert found == {"shape", "steps", "number", "target"}, "ArgMax compares floats"


def test_nodes_of_unknown_type_count_as_arithmetic_of_signals():
    found = integer_nodes(model(inferred=False).SerializeToString())
    assert found == {"shape", "target"}  # an operator, an initialiser: both are always there


def test_a_name_that_a_signal_node_shares_is_not_found():
    named_alike = model()
    for node in named_alike.graph.node:
        if node.name in ("steps", "scaled"):
            node.name = "same"
    assert "same" not in integer_nodes(named_alike.SerializeToString())


def test_nameless_nodes_are_not_found():
    nameless = model()
    for node in nameless.graph.node:
        node.name = ""
    assert integer_nodes(nameless.SerializeToString()) == set()


def test_bytes_that_are_no_model_are_an_error():
    with pytest.raises(ValueError, match="beyond the end"):
        integer_nodes(b"\x3a\x05\x0a")


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_a_model_or_an_error(raw):
    with contextlib.suppress(ValueError):
        assert all(integer_nodes(raw))
