"""What NVIDIA understood and built is what was meant; a stateful graph goes the same way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rewrite.onnx_text import parse
from targets.stateful import CHANNELS, stateful_graph, whole
from tcn_export.errors import UnsupportedModelError
from tcn_export.graph import BATCH, Signature, TensorSpec
from tcn_export.parity.metrics import sqnr_db
from tcn_export.progress import Silent
from tcn_export.quantize.calibration import Ranges
from tcn_export.quantize.dialects import TENSORRT
from tcn_export.quantize.qdq import quantize
from tcn_export.rewrite.base import run
from tcn_export.rewrite.conv1d_to_conv2d import Conv1dToConv2d
from tcn_export.rewrite.half_precision import HalfPrecision
from tcn_export.targets import onnxruntime
from tcn_export.targets.cuda_driver import ask_driver
from tcn_export.targets.tensorrt import deployment, target
from tcn_export.targets.tensorrt.builder import Convolution
from tcn_export.targets.tensorrt.deployment import deploy
from tcn_export.targets.tensorrt.settings import TensorRTSettings

pytestmark = pytest.mark.skipif(bool(ask_driver().devices), reason="there is a CUDA device")
LARGEST = 8.0
"""Of every value here, roughly: normal noise through two convolutions."""


def convert(precision: str):
    graph = stateful_graph()
    values = [v.name for node in graph.model.graph for v in (*node.inputs, *node.outputs)]
    if precision == "float16":
        return run(HalfPrecision(dict.fromkeys(values, LARGEST)), graph)
    if precision == "int8":
        ranges = dict.fromkeys(values, (-LARGEST, LARGEST))
        return quantize(graph, Ranges(ranges, "minmax", 0), TENSORRT)
    return graph


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_nvidia_builds_it_in_every_precision(precision, rtx):
    graph = convert(precision)
    settings = TensorRTSettings(batch=2).to_json(graph.signature, (1, 1, 1))
    deployed = deploy(target.build(graph, precision, settings), graph.model, Silent())
    assert deployed.engine == "not built: no CUDA device"
    assert "accepted by NVIDIA's parser" in deployed.builder["parser"]
    assert set(deployed.convolutions) == {"conv_0", "y"}
    assert set(deployed.convolutions.values()) == {precision}


@pytest.mark.parametrize(
    ("precision", "least"), [("float32", 100), ("float16", 50), ("int8", 20)]
)
def test_its_meaning_over_a_stream_is_that_of_the_whole_signal(precision, least):
    graph = convert(precision)
    x = np.random.default_rng(0).standard_normal((2, CHANNELS, 300)).astype(np.float32)
    runner = onnxruntime.runner(onnxruntime.build(graph, "float32"), threads=1)
    steps = [runner.run({"x": x[:, :, t : t + 1]})["y"] for t in range(x.shape[2])]
    assert sqnr_db(np.concatenate(steps, axis=2), whole(x)) >= least


@pytest.mark.parametrize(
    "change",
    [
        {"kernel": [4, 1]},
        {"stride": [2, 1]},
        {"dilation": [2, 1]},
        {"pads_before": [1, 0]},
        {"pads_after": [1, 0]},
        {"groups": 3},
        {"name": "another"},
    ],
)
def test_a_convolution_understood_otherwise_is_an_error(change):
    graph = stateful_graph()
    ours = Convolution("conv_0", [3, 1], [1, 1], [1, 1], [0, 0], [0, 0], 1)
    other = Convolution("y", [3, 1], [1, 1], [4, 1], [0, 0], [0, 0], 1)
    deployment._require_equal(graph.model, [ours, other])
    with pytest.raises(UnsupportedModelError, match="understood the convolution `conv_0` as"):
        deployment._require_equal(graph.model, [replace(ours, **change), other])


@pytest.mark.parametrize("layout", ["1d", "2d"])
def test_any_convolution_is_understood_as_it_is_meant(layout, rtx, tmp_path):
    text = """
    agraph (float[n,4,40] x) => (float[n,4,m] y)
    <float[4,2,3] w = {WEIGHTS}, float[4,4,5] v = {MORE}>
    {
        a = Conv<kernel_shape = [3], group = 2, strides = [2], pads = [3, 1]>(x, w)
        y = Conv<kernel_shape = [5], dilations = [3], pads = [12, 0]>(a, v)
    }""".replace("WEIGHTS", ", ".join(["0.1"] * 24)).replace("MORE", ", ".join(["0.1"] * 80))
    graph = parse(text.replace("float[n,4,m]", "float[n,4,21]"))
    if layout == "2d":
        graph = run(Conv1dToConv2d(), graph)
    signature = Signature(
        (TensorSpec("x", "float32", (BATCH, 4, 40)),), (TensorSpec("y", "float32", (BATCH,)),)
    )
    graph = replace(graph, signature=signature)
    artifact = target.build(graph, "float32", TensorRTSettings().to_json(signature, (1, 1, 1)))
    assert deploy(artifact, graph.model, Silent()).engine.startswith("not built")


def test_every_deployment_compares_what_was_understood(rtx, monkeypatch):
    real = deployment.build_in_child

    def misunderstanding(request, report):
        built = real(request, report)
        first = replace(built.convolutions[0], pads_before=[1, 0])
        return replace(built, convolutions=[first, *built.convolutions[1:]])

    monkeypatch.setattr(deployment, "build_in_child", misunderstanding)
    graph = stateful_graph()
    settings = TensorRTSettings(batch=2).to_json(graph.signature, (1, 1, 1))
    with pytest.raises(UnsupportedModelError, match="understood the convolution `conv_0`"):
        deploy(target.build(graph, "float32", settings), graph.model, Silent())
