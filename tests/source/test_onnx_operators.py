"""Operators of networks in ONNX files: what the runtime computes, and in float64 too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tcn_export.source.onnx_module import OnnxModule
from tcn_export.source.probe import Probe

Constants = dict[str, Any]
Case = Callable[[int, int], tuple[dict[str, Any], Constants]]
"""Attributes and constant inputs of an operator, for so many channels and steps."""

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def plain(_: int, __: int) -> tuple[dict[str, Any], Constants]:
    return {}, {}


def by_channel(c: int, _: int) -> tuple[dict[str, Any], Constants]:
    return {}, {"a": floats(c, 1) + 3}


CASES: dict[str, tuple[str, Case]] = {
    **{
        op: (op, plain)
        for op in (
            "Abs", "Ceil", "Elu", "Erf", "Exp", "Floor", "Gelu", "GlobalAveragePool",
            "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish",
            "Neg", "Relu", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Tanh",
        )
    },
    **{op: (op, by_channel) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu")},
    "Clip": ("Clip", lambda c, n: ({}, {"low": np.float32(-0.5), "high": np.float32(6)})),
    "Softmax": ("Softmax", lambda c, n: ({"axis": 1}, {})),
    "LogSoftmax": ("LogSoftmax", lambda c, n: ({"axis": -1}, {})),
    "Transpose": ("Transpose", lambda c, n: ({"perm": [0, 2, 1]}, {})),
    "MatMul": ("MatMul", lambda c, n: ({}, {"w": floats(n, 5)})),
    "Reshape": ("Reshape", lambda c, n: ({}, {"to": np.array([0, 1, -1])})),
    "Flatten": ("Flatten", lambda c, n: ({"axis": 1}, {})),
    "Slice": (
        "Slice",
        lambda c, n: ({}, {"a": np.array([1]), "b": np.array([n]), "axes": np.array([2])}),
    ),
    "Gather": ("Gather", lambda c, n: ({"axis": 2}, {"i": np.array([-1, 0])})),
    "Pad": ("Pad", lambda c, n: ({}, {"pads": np.array([0, 0, 2, 0, 0, 1])})),
    "Pad, reflected": (
        "Pad", lambda c, n: ({"mode": "reflect"}, {"pads": np.array([0, 0, 2, 0, 0, 1])}),
    ),
    "Expand": ("Expand", lambda c, n: ({}, {"to": np.array([1, c, n])})),
    "Tile": ("Tile", lambda c, n: ({}, {"by": np.array([1, 2, 1])})),
    "ReduceMax": ("ReduceMax", lambda c, n: ({}, {"axes": np.array([2])})),
    "ReduceL2": ("ReduceL2", lambda c, n: ({}, {"axes": np.array([1])})),
    "ReduceSum": ("ReduceSum", lambda c, n: ({"keepdims": 0}, {"axes": np.array([1])})),
    "MaxPool": (
        "MaxPool", lambda c, n: ({"kernel_shape": [3], "pads": [1, 1], "strides": [2]}, {}),
    ),
    "MaxPool, step by step": (
        "MaxPool", lambda c, n: ({"kernel_shape": [3], "pads": [1, 1]}, {}),
    ),
    "LpPool": ("LpPool", lambda c, n: ({"kernel_shape": [2], "p": 2}, {})),
    "Conv": ("Conv", lambda c, n: ({"pads": [2, 1]}, {"w": floats(4, c, 3), "b": floats(4)})),
    "Conv by channel": (
        "Conv", lambda c, n: ({"group": c, "dilations": [2]}, {"w": floats(c, 1, 3)}),
    ),
    "LayerNormalization": (
        "LayerNormalization", lambda c, n: ({"axis": -1}, {"s": floats(n), "b": floats(n)}),
    ),
    "InstanceNormalization": (
        "InstanceNormalization", lambda c, n: ({}, {"s": floats(c), "b": floats(c)}),
    ),
    "GroupNormalization": (
        "GroupNormalization",
        lambda c, n: ({"num_groups": 1}, {"s": floats(c), "b": floats(c)}),
    ),
}  # fmt: skip
_STAIRS = {"Ceil", "Floor", "Sign"}
"""Their answer stands still, in any precision, where the signal moves a little."""


def model_of(case: str, channels: int, steps: int) -> onnx.ModelProto:
    op, make = CASES[case]
    attributes, constants = make(channels, steps)
    node = helper.make_node(op, ["x", *constants], ["y"], name="it", **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, steps])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    model = helper.make_model(
        helper.make_graph([node], "g", [x], [y], weights),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    if not model.graph.output[0].type.tensor_type.HasField("shape"):  # of a function
        model.graph.output[0].CopyFrom(
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", channels, steps])
        )
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("case", CASES)
@given(batch=st.integers(1, 3), channels=st.integers(1, 4), steps=st.integers(5, 12))
def test_operators_compute_what_the_runtime_computes_and_then_in_double(
    case, batch, channels, steps
):
    model = model_of(case, channels, steps)
    module = OnnxModule(model).eval()
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((batch, channels, steps)))
    single = module(x.float())
    assert single.dtype == torch.float32
    (want,) = ort.InferenceSession(model.SerializeToString()).run(
        None, {"x": x.float().numpy()}
    )
    np.testing.assert_allclose(single.numpy(), want, rtol=2e-5, atol=2e-6)
    module.double()
    double = module(x)
    assert double.dtype == torch.float64
    np.testing.assert_allclose(double.numpy(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", [c for c in CASES if c not in _STAIRS])
def test_operators_round_nothing_to_single_on_their_way(case):
    module = OnnxModule(model_of(case, 4, 12)).eval()
    probe = Probe(case, module, 4)
    assert probe.why_only_single(12) == ""
