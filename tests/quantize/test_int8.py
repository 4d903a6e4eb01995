from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from support import TINY_LENGTH, make_source, operators
from tcn_export.capture import capture
from tcn_export.models.resnet1d import ResNet1dConfig, WangResNetConfig
from tcn_export.models.tcn import TCNConfig
from tcn_export.parity.metrics import sqnr_db
from tcn_export.progress import Silent
from tcn_export.quantize.calibration import calibrate
from tcn_export.quantize.coverage import Coverage, measure_coverage
from tcn_export.quantize.dialects import METHODS, ORT_X86_VNNI
from tcn_export.quantize.qdq import quantize
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.plans import ONNX
from tcn_export.targets.onnxruntime import OnnxRuntimeRunner, build, optimized_model

SHAPE = {"in_channels": 3, "outputs": 4}
CONFIGS = {
    "tcn, one convolution": TCNConfig(**SHAPE, widths=(8,) * 3, dilations=(1, 2, 4)),
    "tcn, two convolutions": TCNConfig(
        **SHAPE, widths=(8, 12, 12), dilations=(1, 2, 4), convolutions=2, head="mean"
    ),
    "tcn, every step": TCNConfig(
        **SHAPE, widths=(8,) * 3, dilations=(1, 2, 4), convolutions=2, head="every"
    ),
    "tcn, weight norm": TCNConfig(**SHAPE, widths=(8,) * 2, dilations=(1, 2), norm="weight"),
    "resnet1d": ResNet1dConfig(**SHAPE, widths=(8, 12), strides=(1, 2)),
    "resnet1d, even kernel": ResNet1dConfig(
        **SHAPE, widths=(8,), strides=(1,), blocks=2, kernel_size=4
    ),
    "resnet-wang": WangResNetConfig(**SHAPE, widths=(8, 12, 12)),
}


def windows(source, count=64, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, source.channels, TINY_LENGTH))
    return (source.center[:, None] + source.spread[:, None] * noise).astype(np.float32)


@pytest.fixture(scope="module")
def float_graphs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    sources = {name: make_source(folder / "m.pt", config) for name, config in CONFIGS.items()}
    return {
        name: (source, run_plan(ONNX, capture(source, TINY_LENGTH, 20)))
        for name, source in sources.items()
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_every_convolution_runs_on_integers(name, float_graphs):
    source, graph = float_graphs[name]
    ranges = calibrate(graph, windows(source), "minmax", ORT_X86_VNNI, Silent())
    artifact = build(quantize(graph, ranges, ORT_X86_VNNI), "int8")
    coverage = measure_coverage(graph, optimized_model(artifact))
    assert coverage.left_in_float == ()
    assert coverage.integer == coverage.total == operators(graph).count("Conv")


@pytest.mark.parametrize("count", [40, 128, 131])
@pytest.mark.parametrize("method", METHODS)
def test_every_calibration_method_keeps_the_signal(method, count, float_graphs):
    source, graph = float_graphs["tcn, two convolutions"]
    ranges = calibrate(graph, windows(source, count), method, ORT_X86_VNNI, Silent())
    assert (ranges.method, ranges.windows) == (method, count)
    quantized = build(quantize(graph, ranges, ORT_X86_VNNI), "int8")
    plain = build(graph, "float32")
    x = {"signal": windows(source, 64, seed=1)}
    truth, actual = (
        OnnxRuntimeRunner(a.files[a.model], a.signature).run(x)["logits"].astype(np.float64)
        for a in (plain, quantized)
    )
    assert sqnr_db(actual, truth) > 20


def test_quantised_graph_follows_its_dialect(float_graphs):
    source, graph = float_graphs["tcn, one convolution"]
    ranges = calibrate(graph, windows(source), "minmax", ORT_X86_VNNI, Silent())
    quantized = quantize(graph, ranges, ORT_X86_VNNI)
    assert quantized.history[-1].name == "quantize[onnxruntime-x86-vnni]"
    assert quantized.history[-1].modified == operators(quantized).count("QuantizeLinear")
    model = quantized.model.graph
    for value in (*model.inputs, *model.outputs):
        assert value.dtype == ir.DataType.FLOAT
    convs = [node for node in model if node.op_type == "Conv"]
    for conv in convs:
        signal, weight = (conv.inputs[i].producer() for i in (0, 1))
        assert signal.inputs[2].const_value.dtype == ir.DataType.UINT8
        assert weight.inputs[0].const_value.dtype == ir.DataType.INT8
        channels = weight.inputs[0].const_value.shape[0]
        assert weight.inputs[1].const_value.numpy().shape == (channels,)
        assert not weight.inputs[2].const_value.numpy().any()  # symmetric weights
    # raw sensor values keep full precision through the input normalisation
    normalisation = [node for node in model if node.op_type in ("Sub", "Mul")]
    assert [node.op_type for node in normalisation] == ["Sub", "Mul"]
    assert normalisation[0].inputs[0].is_graph_input()


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_move_by_half_a_step_at_most(name, float_graphs):
    source, graph = float_graphs[name]
    ranges = calibrate(graph, windows(source), "minmax", ORT_X86_VNNI, Silent())
    quantized = quantize(graph, ranges, ORT_X86_VNNI)
    before = {n.name: n.inputs[1].const_value.numpy() for n in convolutions(graph)}
    for conv in convolutions(quantized):
        integers, scale, _ = (
            value.const_value.numpy() for value in conv.inputs[1].producer().inputs
        )
        step = scale.astype(np.float64).reshape(-1, 1, 1)
        error = np.abs(integers * step - before.pop(conv.name).astype(np.float64))
        assert (error <= 0.5001 * step).all()  # the division is rounded to float32 first
    assert not before


@given(
    values=arrays(np.float32, 50, elements=st.floats(-1e3, 1e3, width=32)),
    low=st.floats(-1e3, 0, width=32),
    high=st.floats(0, 1e3, width=32),
)
def test_values_within_the_range_move_by_half_a_step_at_most(values, low, high):
    assume(high - low > 1e-3)
    scale = np.float32((high - low) / 255)
    zero = np.uint8(np.clip(np.round(-low / scale), 0, 255))
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[50] x, float s, uint8 z) => (float[50] y) {
            q = QuantizeLinear (x, s, z)
            y = DequantizeLinear (q, s, z)
        }""")
    session = ort.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    lowest, highest = (scale * (limit - float(zero)) for limit in (0, 255))
    x = np.clip(values, lowest, highest).astype(np.float32)
    (y,) = session.run(None, {"x": x, "s": np.array(scale), "z": np.array(zero)})
    assert (np.abs(y.astype(np.float64) - x) <= 0.5001 * scale).all()


def convolutions(graph):
    return [node for node in graph.model.graph if node.op_type == "Conv"]


def test_calibration_reports_every_window(float_graphs):
    source, graph = float_graphs["tcn, one convolution"]
    told = []

    class Listener(Silent):
        def stage(self, title, total=None):
            from contextlib import nullcontext

            told.append((title, total))
            return nullcontext(lambda units=1: told.append(units))

    calibrate(graph, windows(source, 70), "minmax", ORT_X86_VNNI, Listener())
    assert told[0] == ("Calibrating (minmax)", 70)
    assert sum(told[1:]) == 70


def test_coverage_names_convolutions_left_in_float(float_graphs):
    _, graph = float_graphs["resnet1d"]
    plain = build(graph, "float32")
    coverage = measure_coverage(graph, optimized_model(plain))
    assert isinstance(coverage, Coverage)
    assert coverage.integer == 0
    assert coverage.total == len(coverage.left_in_float) == operators(graph).count("Conv")
    assert any("stages.0.block0.conv1" in name for name in coverage.left_in_float)
