from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcn_export.graph import Graph, Signature
from tcn_export.quantize.equalization import CrossLayerEqualization
from tcn_export.rewrite.base import run

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'
CHAIN = "a = Conv <pads=[2, 0]> (x, w1, b1)\n r = Relu (a)\n y = Conv (r, w2, b2)"
DEPTHWISE = "a = Conv (x, w1, b1)\n r = Relu (a)\n y = Conv <group=4> (r, w2, b2)"


def graph(body, initializers, channels=2, outputs="float[batch, 3, 11] y"):
    text = f"{HEAD} g (float[batch, {channels}, 12] x) => ({outputs}) {{ {body} }}"
    proto = onnx.parser.parse_model(text)
    for name, array in initializers.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return Graph(ir.from_proto(proto), Signature((), ()))


def constants(rng, spread=4.0, groups=1):
    scale = 10 ** rng.uniform(-spread / 2, spread / 2, (4, 1, 1))
    reader = (4, 1, 2) if groups == 4 else (3, 4, 2)
    arrays = {
        "w1": scale * rng.standard_normal((4, 2, 3)),
        "b1": scale[:, 0, 0] * rng.standard_normal(4),
        "w2": rng.standard_normal(reader),
        "b2": rng.standard_normal(reader[0]),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def answers(graph, x):
    session = ort.InferenceSession(
        ir.to_proto(graph.model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


def initializer(graph, node, position):
    found = [n for n in graph.model.graph if n.op_type == "Conv"][node]
    return found.inputs[position].const_value.numpy()


@given(seed=st.integers(0, 999), groups=st.sampled_from([1, 4]))
def test_equalised_networks_compute_the_same_bits(seed, groups):
    rng = np.random.default_rng(seed)
    outputs = "float[batch, 4, 9] y" if groups == 4 else "float[batch, 3, 11] y"
    body = DEPTHWISE if groups == 4 else CHAIN
    before = graph(body, constants(rng, groups=groups), outputs=outputs)
    after = run(CrossLayerEqualization(), before)
    x = rng.standard_normal((3, 2, 12)).astype(np.float32)
    # powers of two: no product and no sum is rounded otherwise
    np.testing.assert_array_equal(answers(after, x), answers(before, x))


@given(seed=st.integers(0, 999))
def test_channels_have_about_equal_ranges_afterwards(seed):
    before = graph(CHAIN, constants(np.random.default_rng(seed)))
    after = run(CrossLayerEqualization(), before)
    writes = np.abs(initializer(after, 0, 1)).max(axis=(1, 2))
    reads = np.abs(initializer(after, 1, 1)).max(axis=(0, 2))
    ratio = writes / reads  # the same for all channels, up to the rounding to a power of two
    assert ratio.max() / ratio.min() <= 4.01


def test_running_twice_changes_nothing_more():
    once = run(CrossLayerEqualization(), graph(CHAIN, constants(np.random.default_rng(0))))
    twice = run(CrossLayerEqualization(), once)
    assert twice.history[-1].modified == 0
    np.testing.assert_array_equal(initializer(twice, 0, 1), initializer(once, 0, 1))


def test_shared_weights_of_others_keep_their_values():
    body = "p = Conv (x, w1, b1)\n q = Relu (p)\n y = Conv (q, v, b2)\n z = Conv (x, w1, b1)"
    arrays = constants(np.random.default_rng(0))
    arrays["v"] = arrays.pop("w2")
    both = graph(body, arrays, outputs="float[batch, 3, 9] y, float[batch, 4, 10] z")
    after = run(CrossLayerEqualization(), both)
    assert after.history[-1].modified == 1
    other = [n for n in after.model.graph if n.op_type == "Conv"][2]
    np.testing.assert_array_equal(other.inputs[1].const_value.numpy(), arrays["w1"])


REFUSALS = {
    "a second reader": (
        "a = Conv (x, w1, b1)\n y = Conv (a, w2, b2)\n z = Relu (a)",
        "float[batch, 3, t] y, float[batch, 4, u] z",
        "is also read by",
    ),
    "an output of the graph": (
        "a = Conv (x, w1, b1)\n y = Conv (a, w2, b2)",
        "float[batch, 3, t] y, float[batch, 4, u] a",
        "is also an output of the graph",
    ),
    "an activation that does not scale": (
        "a = Conv (x, w1, b1)\n r = Tanh (a)\n y = Conv (r, w2, b2)",
        "float[batch, 3, t] y",
        "(Tanh) does not scale by channel",
    ),
    "two rows per channel": (
        "a = Conv (x, w1, b1)\n y = Conv <group=4> (a, w8, b8)",
        "float[batch, 8, t] y",
        "has not one row of weights per channel",
    ),
    "a reader in groups": (
        "a = Conv (x, w1, b1)\n y = Conv <group=2> (a, w3, b3)",
        "float[batch, 2, t] y",
        "reads its channels in groups",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_scaled_is_left_alone(case):
    body, outputs, reason = REFUSALS[case]
    rng = np.random.default_rng(0)
    arrays = constants(rng)
    arrays["w3"] = rng.standard_normal((2, 2, 2)).astype(np.float32)
    arrays["b3"] = np.zeros(2, np.float32)
    arrays["w8"] = rng.standard_normal((8, 1, 2)).astype(np.float32)
    arrays["b8"] = np.zeros(8, np.float32)
    used = {name: array for name, array in arrays.items() if name in body}
    after = run(CrossLayerEqualization(), graph(body, used, outputs=outputs))
    step = after.history[-1]
    assert step.modified == 0
    assert any(reason in refusal.reason for refusal in step.refusals), step.refusals


def test_dead_channels_are_left_alone():
    arrays = constants(np.random.default_rng(0))
    arrays["w1"][1] = 0
    after = run(CrossLayerEqualization(), graph(CHAIN, arrays))
    assert np.isfinite(initializer(after, 1, 1)).all()
    np.testing.assert_array_equal(initializer(after, 1, 1)[:, 1], arrays["w2"][:, 1])
