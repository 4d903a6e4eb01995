from __future__ import annotations

import numpy as np
import pytest

from support import TINY_LENGTH, make_source
from tcn_export.capture import capture
from tcn_export.models.tcn import TCNConfig
from tcn_export.progress import Silent
from tcn_export.quantize.bias_correction import correct_biases
from tcn_export.quantize.calibration import calibrate
from tcn_export.quantize.dialects import ORT_X86_VNNI, TENSORRT
from tcn_export.quantize.qdq import quantize
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.plans import ONNX
from tcn_export.targets.onnxruntime import OnnxRuntimeRunner, build

CONFIG = TCNConfig(
    in_channels=3,
    outputs=4,
    widths=(12,) * 3,
    dilations=(1, 2, 4),
    convolutions=2,
    head="mean",
)


def windows(source, count, seed):
    noise = np.random.default_rng(seed).standard_normal((count, source.channels, TINY_LENGTH))
    return (source.center[:, None] + source.spread[:, None] * noise).astype(np.float32)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    source = make_source(tmp_path_factory.mktemp("bias") / "m.pt", CONFIG)
    return source, run_plan(ONNX, capture(source, TINY_LENGTH, 20))


def answers(graph, x, precision="int8"):
    artifact = build(graph, precision)
    runner = OnnxRuntimeRunner(artifact.files[artifact.model], artifact.signature)
    return runner.run({"signal": x})["logits"].astype(np.float64)


@pytest.mark.parametrize("dialect", [ORT_X86_VNNI, TENSORRT], ids=lambda d: d.name)
def test_the_mean_error_of_the_answers_falls_on_windows_that_were_not_seen(network, dialect):
    source, graph = network
    ranges = calibrate(graph, windows(source, 64, 0), "minmax", dialect, Silent())
    plain = quantize(graph, ranges, dialect)
    corrected = correct_biases(graph, plain, windows(source, 128, 1))
    assert corrected.history[-1].name == "bias_correction"
    assert corrected.history[-1].modified > 0
    x = windows(source, 512, 2)
    truth = answers(graph, x, "float32")
    means = [np.abs((answers(g, x) - truth).mean(axis=0)).max() for g in (plain, corrected)]
    assert means[1] < 0.75 * means[0]


def test_layers_in_float_and_weights_keep_every_bit(network):
    source, graph = network
    ranges = calibrate(graph, windows(source, 64, 0), "minmax", ORT_X86_VNNI, Silent())
    first = next(node.name for node in graph.model.graph if node.op_type == "Conv")
    plain = quantize(graph, ranges, ORT_X86_VNNI, {first})
    corrected = correct_biases(graph, plain, windows(source, 64, 1))
    before, after = (g.model.graph.initializers for g in (plain, corrected))
    moved = {
        name
        for name in before
        if not np.array_equal(
            before[name].const_value.numpy(), after[name].const_value.numpy()
        )
    }
    assert moved
    assert all(before[name].const_value.numpy().dtype == np.int32 for name in moved)
    assert not any("blocks.0.conv1" in name for name in moved)
