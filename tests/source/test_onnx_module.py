"""An ONNX model as a module: it computes what the standard says, in its input's precision."""

from __future__ import annotations

import copy
import time

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch.nn import functional

from tcn_export.source.onnx_double import OnlySingle
from tcn_export.source.onnx_kernels import KERNELS
from tcn_export.source.onnx_module import OnnxModule

W = np.random.default_rng(0).standard_normal((4, 3, 3))
SCALE = np.linspace(0.5, 2, 3)


def model_of(nodes, constants=(), opset=20, outputs=("y",), shape=("n", 3, 12)):
    """A model of one signal; constants are by name, floats become float32."""
    weights = [
        numpy_helper.from_array(
            np.asarray(v, np.float32) if np.asarray(v).dtype.kind == "f" else np.asarray(v), k
        )
        for k, v in dict(constants).items()
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        weights,
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
    )
    made = onnx.shape_inference.infer_shapes(made, strict_mode=True)
    onnx.checker.check_model(made, full_check=True)
    return made


def node(op, *inputs, **attributes):
    return helper.make_node(op, ["x", *inputs], ["y"], name=f"the {op}", **attributes)


SMOOTH = {
    "Tanh": (node("Tanh"), {}, torch.tanh),
    "Sigmoid": (node("Sigmoid"), {}, torch.sigmoid),
    "Erf": (node("Erf"), {}, torch.erf),
    "Gelu": (node("Gelu"), {}, functional.gelu),
    "Gelu, tanh": (
        node("Gelu", approximate="tanh"), {}, lambda x: functional.gelu(x, approximate="tanh"),
    ),
    "Softplus": (node("Softplus"), {}, functional.softplus),
    "Mish": (node("Mish"), {}, functional.mish),
    "Exp": (node("Exp"), {}, torch.exp),
    "Softmax": (node("Softmax", axis=1), {}, lambda x: x.softmax(1)),
    "LogSoftmax": (node("LogSoftmax", axis=1), {}, lambda x: x.log_softmax(1)),
    "ReduceMean": (node("ReduceMean", "a"), {"a": [2]}, lambda x: x.mean(2, keepdim=True)),
    "Add": (node("Add", "a"), {"a": 0.1}, lambda x: x + float(np.float32(0.1))),
    "Cast": (node("Cast", to=TensorProto.FLOAT), {}, lambda x: x),
    "GlobalAveragePool": (node("GlobalAveragePool"), {}, lambda x: x.mean(2, keepdim=True)),
    "Conv": (
        node("Conv", "w"), {"w": W},
        lambda x: functional.conv1d(x, torch.tensor(W).float().to(x)),
    ),
    "LayerNormalization": (
        node("LayerNormalization", "s", epsilon=0.5), {"s": np.ones(12)},
        lambda x: functional.layer_norm(x, (12,), eps=0.5),
    ),
    "InstanceNormalization": (
        node("InstanceNormalization", "s", "b", epsilon=0.5),
        {"s": np.ones(3), "b": np.zeros(3)},
        lambda x: functional.instance_norm(x, eps=0.5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SMOOTH)
def test_operators_compute_in_double_where_their_input_is(case):
    one, constants, want = SMOOTH[case]
    module = OnnxModule(model_of([one], constants)).eval()
    x = torch.randn(2, 3, 12)
    single = module(x)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, want(x), rtol=1e-5, atol=1e-6)
    double = copy.deepcopy(module).double()(x.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double, want(x.double()), rtol=1e-13, atol=1e-14)


@st.composite
def convolutions(draw):
    axes = draw(st.integers(1, 2))
    groups = draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 4)) for _ in range(axes)]
    kind = draw(st.sampled_from(["Conv", "ConvTranspose"]))
    automatic = draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    told = {
        "strides": [draw(st.integers(1, 3)) for _ in range(axes)],
        "dilations": [draw(st.integers(1, 3)) for _ in range(axes)],
        "group": groups,
    }
    if kind == "ConvTranspose" or automatic == "NOTSET":
        told["pads"] = [draw(st.integers(0, 2)) for _ in range(2 * axes)]
    else:
        told |= {"auto_pad": automatic, "dilations": [1] * axes}
    if kind == "ConvTranspose":
        told["output_padding"] = [draw(st.integers(0, s - 1)) for s in told["strides"]]
    width = (2, 2 * groups) if kind == "ConvTranspose" else (2 * groups, 2)
    weight = (2 * groups, 2, *kernel) if kind == "ConvTranspose" else (*width, *kernel)
    names = ["w", "b"] if draw(st.booleans()) else ["w"]
    return axes, groups, weight, helper.make_node(kind, ["x", *names], ["y"], **told)


@given(convolutions())
def test_convolutions_are_those_of_the_standard(case):
    axes, groups, weight, one = case
    rng = np.random.default_rng(0)
    shape = ("n", 2 * groups, *[9, 10][:axes])
    constants = {"w": rng.standard_normal(weight), "b": rng.standard_normal(2 * groups)}
    if "b" not in one.input:
        del constants["b"]
    try:
        model = model_of([one], constants, shape=shape)
    except onnx.shape_inference.InferenceError:
        assume(False)  # a kernel wider than the signal
    feeds = {"x": rng.standard_normal((2, *shape[1:])).astype(np.float32)}
    (ours,) = ReferenceEvaluator(model, new_ops=KERNELS).run(None, feeds)
    # Not by the evaluator's own, whose ConvTranspose fails where there are groups.
    (theirs,) = ort.InferenceSession(model.SerializeToString()).run(None, feeds)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@given(
    size=st.integers(1, 4),
    stride=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    counts=st.booleans(),
    ceils=st.booleans(),
    opset=st.sampled_from([7, 11, 20]),
)
def test_average_pools_are_those_of_the_standard(size, stride, pads, counts, ceils, opset):
    assume(max(pads) < size)
    told = {"ceil_mode": int(ceils)} if opset > 9 else {}
    one = node(
        "AveragePool", kernel_shape=[size], strides=[stride], pads=pads,
        count_include_pad=int(counts), **told,
    )  # fmt: skip
    model = model_of([one], opset=opset)
    x = np.random.default_rng(0).standard_normal((2, 3, 12)).astype(np.float32)
    (fast,) = ReferenceEvaluator(model, new_ops=KERNELS).run(None, {"x": x})
    (slow,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(fast, slow, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("opset", [7, 9, 14, 15, 20])
def test_batch_norm_takes_its_own_statistics_in_every_operator_set(opset):
    stats = {"s": SCALE, "b": SCALE - 1, "m": 3 * SCALE, "v": SCALE**2}
    one = node("BatchNormalization", *stats, epsilon=0.1, momentum=0.9)
    module = OnnxModule(model_of([one], stats, opset)).eval().double()
    x = torch.randn(2, 3, 12).double()
    mean, variance, scale, bias = (
        torch.tensor(np.float32(stats[k])).double() for k in ("m", "v", "s", "b")
    )
    want = functional.batch_norm(x, mean, variance, scale, bias, eps=float(np.float32(0.1)))
    torch.testing.assert_close(module(x), want, rtol=1e-13, atol=1e-14)


def test_copies_compute_with_their_own_weights():
    module = OnnxModule(model_of([node("Conv", "w")], {"w": W})).eval()
    other = copy.deepcopy(module)
    other.constant_0.data *= 2
    x = torch.randn(2, 3, 12)
    torch.testing.assert_close(other(x), 2 * module(x))
    assert sum(p.numel() for p in module.parameters()) == W.size


def test_scales_that_must_be_single_stay_single():
    nodes = [node("Resize", "", "s", mode="linear")]
    module = OnnxModule(model_of(nodes, {"s": [1.0, 1.0, 2.0]}))
    x = torch.randn(2, 3, 12)
    double = copy.deepcopy(module).double()(x.double())
    assert double.dtype == torch.float64
    assert 1e-9 < (double - module(x)).abs().max() < 1e-6


def test_operators_that_take_no_double_are_named():
    one = helper.make_node(
        "LayerNormalization", ["x", "s"], ["z", "mean"], name="norm", axis=-1
    )
    add = helper.make_node("Add", ["z", "mean"], ["y"])
    module = OnnxModule(model_of([one, add], {"s": np.ones(12)}))
    assert module(torch.randn(2, 3, 12)).shape == (2, 3, 12)
    with pytest.raises(OnlySingle, match=r"`norm` \(LayerNormalization\) takes float32 only"):
        copy.deepcopy(module).double()(torch.randn(2, 3, 12).double())


def test_a_wide_network_takes_no_minutes():
    """ONNX's own convolution took 18 s where this takes 0.3 s."""
    wide = {"w": np.random.default_rng(0).standard_normal((64, 64, 3)) / 64}
    nodes = [
        helper.make_node("Conv", [f"h{i}", "w"], [f"h{i + 1}"], pads=[2, 0]) for i in range(6)
    ]
    nodes[0].input[0], nodes[-1].output[0] = "x", "y"
    module = OnnxModule(model_of(nodes, wide, shape=("n", 64, 512))).double()
    start = time.perf_counter()
    module(torch.randn(4, 64, 512).double())
    assert time.perf_counter() - start < 5
