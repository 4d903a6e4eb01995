"""int8 as TensorRT wants it: symmetric, a float bias, both sides of every addition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
import torch

from support import TINY_LENGTH, make_source
from tcn_export.capture import capture
from tcn_export.graph import TensorSpec
from tcn_export.models.resnet1d import ResNet1dConfig
from tcn_export.models.tcn import TCNConfig
from tcn_export.parity.metrics import sqnr_db
from tcn_export.progress import Silent
from tcn_export.quantize.calibration import calibrate
from tcn_export.quantize.dialects import METHODS, TENSORRT
from tcn_export.quantize.qdq import quantize
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.plans import LAYOUTS, PLANS
from tcn_export.targets.onnxruntime import build, runner

NETWORKS = {
    "tcn": TCNConfig(in_channels=3, outputs=4, widths=(8, 12), dilations=(1, 2)),
    "resnet": ResNet1dConfig(in_channels=3, outputs=4, widths=(8, 12), strides=(1, 2)),
}


@pytest.fixture(scope="module", params=[(n, p) for n in NETWORKS for p in ("1d", "2d")])
def quantized(request, tmp_path_factory):
    """A float graph, its int8 form, and windows that calibrated it."""
    name, layout = request.param
    source = make_source(
        tmp_path_factory.mktemp("trt") / "model.pt", NETWORKS[name], smallest_variance=0.3
    )
    graph = run_plan((*PLANS["trt"], *LAYOUTS[layout]), capture(source, TINY_LENGTH, 18))
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((64, 3, TINY_LENGTH))
    x = (noise * source.spread[:, None] + source.center[:, None]).astype(np.float32)
    ranges = calibrate(graph, x, "minmax", TENSORRT, Silent())
    return graph, quantize(graph, ranges, TENSORRT), x


def nodes(graph, operator):
    return [node for node in graph.model.graph if node.op_type == operator]


def producer(value: ir.Value) -> str | None:
    node = value.producer()
    return None if node is None else node.op_type


def test_every_convolution_reads_integers_on_both_sides_and_a_float_bias(quantized):
    _, graph, _ = quantized
    convolutions = nodes(graph, "Conv")
    assert convolutions
    for conv in convolutions:
        assert [producer(value) for value in conv.inputs[:2]] == ["DequantizeLinear"] * 2
        assert conv.inputs[2].const_value.dtype == ir.DataType.FLOAT
        scale = conv.inputs[1].producer().inputs[1].const_value.numpy()
        assert scale.shape == (conv.inputs[1].shape[0],), "one scale per output channel"
        assert conv.inputs[1].producer().attributes.get_int("axis") == 0


def test_both_inputs_of_every_addition_are_integers(quantized):
    _, graph, _ = quantized
    additions = nodes(graph, "Add")
    assert additions
    for add in additions:
        if any(value.const_value for value in add.inputs):
            continue
        assert [producer(value) for value in add.inputs] == ["DequantizeLinear"] * 2


def test_nothing_stands_between_a_convolution_and_its_activation(quantized):
    _, graph, _ = quantized
    for relu in nodes(graph, "Relu"):
        assert producer(relu.inputs[0]) in ("Conv", "Add")


def test_zero_points_are_0_and_scales_float32(quantized):
    _, graph, _ = quantized
    for node in nodes(graph, "QuantizeLinear") + nodes(graph, "DequantizeLinear"):
        assert node.inputs[1].const_value.dtype == ir.DataType.FLOAT
        zero_point = node.inputs[2].const_value.numpy()
        assert zero_point.dtype == np.int8
        assert not zero_point.any()


def test_each_reader_has_a_pair_of_its_own(quantized):
    _, graph, _ = quantized
    for node in nodes(graph, "DequantizeLinear"):
        assert len(list(node.outputs[0].uses())) == 1


def test_the_head_stays_in_float(quantized):
    _, graph, _ = quantized
    (head,) = nodes(graph, "Gemm")
    assert "DequantizeLinear" not in [producer(value) for value in head.inputs]


def test_its_meaning_in_onnx_runtime_is_that_of_the_float_graph(quantized):
    plain, graph, x = quantized
    float_answer, integer_answer = (
        runner(build(g, "int8"), threads=1).run({"signal": x})["logits"]
        for g in (plain, graph)
    )
    assert sqnr_db(integer_answer, float_answer.astype(np.float64)) >= 20


@pytest.mark.parametrize("method", METHODS)
def test_ranges_of_every_calibration_are_symmetric(method, tmp_path):
    source = make_source(tmp_path / "model.pt", NETWORKS["tcn"])
    graph = run_plan(PLANS["trt"], capture(source, TINY_LENGTH, 18))
    x = np.random.default_rng(0).standard_normal((64, 3, TINY_LENGTH)).astype(np.float32) + 5
    ranges = calibrate(graph, x, method, TENSORRT, Silent())
    for node in nodes(quantize(graph, ranges, TENSORRT), "QuantizeLinear"):
        assert not node.inputs[2].const_value.numpy().any()


def test_offsets_stay_in_float(tmp_path):
    """A normalisation and a bias are additions too; int8 would cost them their precision."""

    class Offsets(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv1d(3, 8, 3, padding=1)
            self.head = torch.nn.Linear(8, 4)

        def forward(self, x):
            h = torch.relu(self.conv(x + torch.tensor([[9.81], [0.0], [-3.0]])))
            return self.head((h + h.roll(1, 1)).transpose(1, 2)).transpose(1, 2)

    source = make_source(tmp_path / "model.pt", NETWORKS["tcn"])
    source = replace(source, module=Offsets().eval().requires_grad_(False))
    spec = TensorSpec("logits", "float32", ("batch", 4, "length"), 2)
    source = replace(source, signature=replace(source.signature, outputs=(spec,)))
    graph = run_plan(PLANS["trt"], capture(source, TINY_LENGTH, 18))
    x = np.random.default_rng(0).standard_normal((64, 3, TINY_LENGTH)).astype(np.float32)
    quantized = quantize(graph, calibrate(graph, x, "minmax", TENSORRT, Silent()), TENSORRT)
    kinds = {
        tuple(sorted(producer(v) == "DequantizeLinear" for v in add.inputs))
        for add in nodes(quantized, "Add")
    }
    assert kinds == {(False, False), (True, True)}
    for add in nodes(quantized, "Add"):
        constant = any(value.const_value is not None for value in add.inputs)
        assert constant is not (producer(add.inputs[0]) == "DequantizeLinear")
