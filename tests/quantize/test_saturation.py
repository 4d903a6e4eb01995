"""Saturation without VNNI: against the instruction spelt out, and against a real run of it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from support import TINY_LENGTH, make_source
from tcn_export.capture import capture
from tcn_export.data import Windows
from tcn_export.models.resnet1d import ResNet1dConfig
from tcn_export.models.tcn import TCNConfig
from tcn_export.progress import Silent
from tcn_export.quantize.calibration import calibrate
from tcn_export.quantize.dialects import ORT_X86_AVX2, ORT_X86_VNNI
from tcn_export.quantize.int16_pairs import excess, may_saturate, multiply
from tcn_export.quantize.integer_layer import integer_layer
from tcn_export.quantize.qdq import quantize
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.plans import LAYOUTS, ONNX
from tcn_export.saturating import saturation
from tcn_export.targets.onnxruntime import build

QEMU = shutil.which("qemu-x86_64")
EDGES = st.sampled_from([-127, -100, 0, 1, 64, 65, 127])


def vpmaddubsw(a, b):
    """Intel's pseudocode: two products of unsigned by signed bytes, added and saturated."""
    total = int(a[0]) * int(b[0]) + int(a[1]) * int(b[1])
    return max(-32768, min(32767, total))


def as_the_processor(weights, columns):
    """Four values of the inner dimension at a time: VPMADDUBSW, VPMADDWD with ones, VPADDD."""
    fill = -weights.shape[1] % 4
    w = np.pad(weights, ((0, 0), (0, fill)))
    x = np.pad(columns, ((0, 0), (0, fill), (0, 0)))
    sums = np.zeros((len(x), len(w), x.shape[2]), np.int64)
    for n, o, t in np.ndindex(*sums.shape):
        for k in range(0, w.shape[1], 4):
            low = vpmaddubsw(x[n, k : k + 2, t], w[o, k : k + 2])
            sums[n, o, t] += low + vpmaddubsw(x[n, k + 2 : k + 4, t], w[o, k + 2 : k + 4])
    return sums


@st.composite
def products(draw, largest=127):
    outputs, inner, batch, positions = (draw(st.integers(1, n)) for n in (3, 9, 2, 3))
    weights = st.integers(-largest, largest) | EDGES.filter(lambda w: abs(w) <= largest)
    bytes_ = st.integers(0, 255) | st.just(255)
    return (
        draw(arrays(np.int8, (outputs, inner), elements=weights)),
        draw(arrays(np.uint8, (batch, inner, positions), elements=bytes_)),
    )


@given(products())
def test_sums_are_those_of_the_instruction(product):
    weights, columns = product
    exact, (taken, hit) = multiply(*product), excess(*product)
    assert (exact == weights.astype(int) @ columns.astype(int)).all()
    assert (exact - taken == as_the_processor(weights, columns)).all()
    assert not taken[~hit].any()
    assert may_saturate(weights) or not hit.any()


@given(products(largest=64))
def test_seven_bits_never_saturate(product):
    weights, columns = product
    assert not may_saturate(weights)
    assert (as_the_processor(weights, columns) == multiply(*product)).all()


def test_seven_bits_are_the_most_that_never_saturate():
    assert not may_saturate(np.full((1, 2), 64, np.int8))
    assert not may_saturate(np.full((1, 2), -64, np.int8))
    assert may_saturate(np.full((1, 2), 65, np.int8))
    assert may_saturate(np.full((1, 2), -65, np.int8))


def test_products_beyond_what_float32_holds_stay_exact():
    weights = np.full((1, 601), 127, np.int8)
    columns = np.full((1, 601, 1), 255, np.uint8)
    columns[0, 0] = 254
    assert multiply(weights, columns).item() == 127 * (600 * 255 + 254) > 2**24


LAYERS = {
    "pointwise": ((8, 24), (1,), 1),
    "dilated, odd channels": ((3, 16), (5,), 1),
    "two groups": ((8, 16), (3,), 2),
    "depthwise, two outputs": ((4, 8), (5,), 4),
    "depthwise": ((16, 16), (5,), 16),
    "depthwise, uneven": ((6, 6), (7,), 6),
    "two dimensions": ((4, 16), (1, 3), 1),
    "gemm": ((10, 7), (), 1),
    "gemm without QuantizeLinear": ((10, 7), (), 0),
}


def one_layer(name, seed):
    """A Q/DQ model of one layer that saturates; its input as floats and as integers."""
    (channels, outputs), kernel, groups = LAYERS[name]
    rng = np.random.default_rng(seed)
    shape = (outputs, channels // max(groups, 1), *kernel)
    weights = rng.choice([-127, 127, 120, 100, -100, 5], size=shape).astype(np.int8)
    sides = (1, 20) if len(kernel) == 2 else (20,) * len(kernel)
    x = rng.choice([0, 100, 255, 255], size=(2, channels, *sides)).astype(np.uint8)
    scales = rng.uniform(0.01, 0.02, outputs).astype(np.float32)
    step, zero = np.float32(0.02), np.uint8(rng.integers(256))
    inner = shape[1] * int(np.prod(kernel))
    constants = {
        "w": weights, "ws": scales, "wz": np.zeros(outputs, np.int8), "xs": step, "xz": zero,
        "b": rng.integers(-999, 999, outputs).astype(np.int32), "bs": step * scales,
        "bz": np.zeros(outputs, np.int32), "yz": np.uint8(120),
        "ys": np.float32(step * 0.015 * 127 * 255 * inner**0.5 / 128),
    }  # fmt: skip
    settings = {"transB": 1}
    if kernel:
        dilation = [1] * (len(kernel) - 1) + [2]
        pads = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        settings = {"group": groups, "dilations": dilation, "pads": pads + [0] * len(kernel)}
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        make("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        make("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        make("DequantizeLinear", ["b", "bs", "bz"], ["bd"], axis=0),
        make("Conv" if kernel else "Gemm", ["xd", "wd", "bd"], ["c"], **settings),
        make("QuantizeLinear", ["c", "ys", "yz"], ["q"]),
        make("DequantizeLinear", ["q", "ys", "yz"], ["y"]),
    ][: 5 if groups == 0 else None]
    if groups == 0:
        nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        nodes, name.replace(" ", "_"),
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return model, ((x.astype(np.float32) - np.float32(zero)) * step).astype(np.float32), x


def simulated(model, x, saturates):
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    main = next(n for n in model.graph.node if n.op_type in ("Conv", "Gemm"))
    layer = integer_layer(model.graph.node, main, constants)
    y, share = layer.run(x, saturates and layer.may_saturate)
    assert (share > 0) == (saturates and layer.may_saturate), "the case must saturate"
    if layer.given is None:
        return y
    return (y.astype(np.float32) - np.float32(layer.given.zero)) * layer.given.scale


_RUN = """
import sys, numpy as np, onnxruntime as ort
for path in sys.argv[1:]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    np.save(path + ".y.npy", session.run(None, {name: np.load(path + ".npy")})[0])
"""


def answers_without_vnni(models, folder):
    """What ONNX Runtime's kernels for AVX2 answer, on an emulated processor."""
    if QEMU is None:
        pytest.skip("qemu-x86_64 is not installed")
    paths = []
    for i, (model, x) in enumerate(models):
        paths.append(folder / f"{i}.onnx")
        paths[-1].write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        np.save(f"{paths[-1]}.npy", x)
    line = [QEMU, "-cpu", "Haswell", sys.executable, "-c", _RUN, *map(str, paths)]
    subprocess.run(line, check=True, capture_output=True, timeout=500)
    return [np.load(f"{path}.y.npy") for path in paths]


@pytest.mark.slow
def test_layers_are_bit_by_bit_those_of_a_processor_without_vnni(tmp_path):
    cases = [(name, *one_layer(name, seed)) for name in LAYERS for seed in range(4)]
    real = answers_without_vnni([(model, floats) for _, model, floats, _ in cases], tmp_path)
    for (name, model, _, x), y in zip(cases, real, strict=True):
        assert np.array_equal(simulated(model, x, saturates=True), y), name


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_exact_where_nothing_saturates(name):
    model, floats, x = one_layer(name, 0)
    for tensor in model.graph.initializer:
        if tensor.name == "w":  # halved weights: exact on every processor
            half = numpy_helper.to_array(tensor) // 2
            tensor.CopyFrom(numpy_helper.from_array(half, "w"))
    session = ort.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert np.array_equal(
        simulated(model, x, saturates=False), session.run(None, {"x": floats})[0]
    )


NETWORKS = {
    "tcn": TCNConfig(in_channels=3, outputs=4, widths=(32,) * 2, dilations=(1, 2)),
    "every step": TCNConfig(
        in_channels=3, outputs=4, widths=(8,) * 3, dilations=(1, 2, 4), head="every"
    ),
    "resnet": ResNet1dConfig(in_channels=3, outputs=4, widths=(16, 24), strides=(1, 2)),
}


def network(name, folder, dialect, layout="1d"):
    source = make_source(folder / "m.pt", NETWORKS[name])
    graph = run_plan((*ONNX, *LAYOUTS[layout]), capture(source, TINY_LENGTH, 20))
    noise = np.random.default_rng(0).standard_normal((128, 3, TINY_LENGTH))
    x = (source.center[:, None] + source.spread[:, None] * noise).astype(np.float32)
    ranges = calibrate(graph, x[:64], "minmax", dialect, Silent())
    return build(quantize(graph, ranges, dialect), "int8"), x[64:]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["1d", "2d-padded"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_answer_bit_by_bit_as_without_vnni(name, layout, tmp_path):
    from tcn_export.saturating import _answers, _layers, _Walk
    from tcn_export.targets.segments import read_graph

    artifact, x = network(name, tmp_path, ORT_X86_VNNI, layout)
    (real,) = answers_without_vnni([(artifact.files[artifact.model], x)], tmp_path)
    graph = read_graph(artifact.files[artifact.model])
    layers, _ = _layers(graph)
    walk = _Walk(graph, layers, saturates=True)
    assert np.array_equal(_answers(artifact, walk, x, lambda *_: None), real)
    assert any(map(any, walk.shares.values()))


@pytest.mark.parametrize("name", NETWORKS)
def test_what_saturates_with_8_bits_does_not_with_7(name, tmp_path):
    artifact, x = network(name, tmp_path, ORT_X86_VNNI)
    found = saturation(artifact, Windows(x), True, Silent())
    assert found["saturating"]
    assert found["advice"] == "use --cpu-isa avx2"
    assert found["windows"] == 64
    shares = [entry["share"] for entry in found["saturating"]]
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[-1] <= shares[0] <= 1
    artifact, x = network(name, tmp_path, ORT_X86_AVX2)
    found = saturation(artifact, Windows(x), True, Silent())
    assert (found["saturating"], found["advice"], found["changed"]) == ([], "", None)
