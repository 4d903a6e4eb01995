"""Units of a graph, run one by one, are the graph; and hold no more than they must."""

from __future__ import annotations

import weakref

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from tcn_export.errors import BundleError
from tcn_export.targets.segments import read_graph, run_units, run_whole

QDQ = """
<ir_version: 10, opset_import: ["" : 17]>
g (float[1, 2, 9] x) => (float[1, 3, 9] y)
<float s = {0.05}, uint8 z = {128}, float u = {0.02}, int8 n = {0}> {
    qx = QuantizeLinear (x, s, z)
    dx = DequantizeLinear (qx, s, z)
    dw = DequantizeLinear (w, u, n)
    c = Conv <pads = [1, 1]> (dx, dw)
    qc = QuantizeLinear (c, s, z)
    dc = DequantizeLinear (qc, s, z)
    r = Relu (dc)
    y_QuantizeLinear_Input = Add (r, dc)
    qy = QuantizeLinear (y_QuantizeLinear_Input, s, z)
    y = DequantizeLinear (qy, s, z)
}"""


def quantized():
    model = onnx.parser.parse_model(QDQ)
    rng = np.random.default_rng(0)
    weight = rng.integers(-90, 90, (3, 2, 3)).astype(np.int8)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def values_of(model, feeds):
    told = {}
    run_units(read_graph(model), feeds, lambda made, value: told.update({made: value}))
    return {made.value: value for made, value in told.items()}, list(told)


def test_integers_are_told_as_what_they_stand_for_under_the_name_of_their_layer():
    x = np.random.default_rng(1).standard_normal((1, 2, 9)).astype(np.float32)
    model = quantized()
    values, made = values_of(model, {"x": x})
    assert [one.operator for one in made] == ["QuantizeLinear", "Conv", "Relu", "Add"]
    assert made[-1].value == "y"
    assert made[1].reads == ("qx",)
    whole = run_whole(model, {"x": x}, is_optimized=True)["y"]
    assert np.allclose(values["y"], whole, atol=1e-6)
    steps = values["c"] / np.float64(np.float32(0.05))  # whole numbers of quanta
    assert np.allclose(steps, np.round(steps), atol=1e-6)


@given(st.integers(0, 2**31))
def test_units_in_float_give_exactly_what_the_unoptimised_whole_gives(seed):
    model = chain(5, seed)
    x = np.random.default_rng(seed).standard_normal((2, 4, 16)).astype(np.float32)
    values, _ = values_of(model, {"x": x})
    assert np.array_equal(values["y"], run_whole(model, {"x": x}, is_optimized=False)["y"])


def chain(layers, seed=0, channels=4):
    """Convolutions one behind the other, every second one with a branch around it."""
    rng = np.random.default_rng(seed)
    nodes, weights, last = [], [], "x"
    for i in range(layers):
        weight = rng.standard_normal((channels, channels, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight / 4, f"w{i}"))
        nodes.append(
            helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], f"conv{i}", pads=[1, 1])
        )
        if i % 2:
            nodes.append(helper.make_node("Add", [f"c{i}", last], [f"a{i}"], f"add{i}"))
        last = nodes[-1].output[0]
    nodes[-1].output[0] = "y"
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "chain",
        [info("x", onnx.TensorProto.FLOAT, ["n", channels, "t"])],
        [info("y", onnx.TensorProto.FLOAT, ["n", channels, "t"])],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def test_as_many_values_are_held_as_are_still_read():
    held, most = weakref.WeakValueDictionary(), []

    def seen(made, value):
        held[made.value] = value
        most.append(len(held))

    x = np.zeros((1, 4, 1000), np.float32)
    run_units(read_graph(chain(40)), {"x": x}, seen)
    assert len(most) == 60
    assert max(most) <= 3  # the value, what it was made of, and the branch around it
    assert not held


def test_sequences_and_constants_made_by_nodes_belong_to_who_reads_them():
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 17]>
        g (float[1, 4, 6] x) => (float[1, 2, 6] y) <int64 second = {1}, uint8 z = {9}> {
            parts = SplitToSequence <axis = 1, keepdims = 1> (x, two)
            two = Constant <value_int = 2> ()
            part = SequenceAt (parts, second)
            scale = Constant <value_float = 0.1> ()
            q = QuantizeLinear (part, scale, z)
            d = DequantizeLinear (q, scale, z)
            y = Relu (d)
        }""")
    model.graph.node.insert(0, model.graph.node.pop(1))
    onnx.checker.check_model(model)
    x = np.random.default_rng(1).standard_normal((1, 4, 6)).astype(np.float32)
    values, made = values_of(model.SerializeToString(), {"x": x})
    assert [one.operator for one in made] == ["Relu"]
    whole = run_whole(model.SerializeToString(), {"x": x}, is_optimized=False)["y"]
    assert np.array_equal(values["y"], whole)


def test_nodes_out_of_order_are_an_error_that_names_one():
    model = onnx.load_from_string(chain(3))
    model.graph.node.insert(0, model.graph.node.pop())
    with pytest.raises(BundleError, match="`conv2` reads `a1`, which no node before it gives"):
        run_units(
            read_graph(model.SerializeToString()),
            {"x": np.zeros((1, 4, 8), np.float32)},
            lambda *_: None,
        )
    with pytest.raises(BundleError, match="no ONNX file"):
        read_graph(b"\xff\xff\xff\xff")
