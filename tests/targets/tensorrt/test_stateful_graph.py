"""A stateful graph made by hand: lint, geometry and builder, as for an export."""

from __future__ import annotations

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

from targets.stateful import CHANNELS, stateful_graph, whole
from tcn_export.parity.metrics import sqnr_db
from tcn_export.progress import Silent
from tcn_export.quantize.calibration import Ranges
from tcn_export.quantize.dialects import TENSORRT
from tcn_export.quantize.qdq import quantize
from tcn_export.rewrite.base import run
from tcn_export.rewrite.half_precision import HalfPrecision
from tcn_export.targets import onnxruntime
from tcn_export.targets.cuda_driver import ask_driver
from tcn_export.targets.tensorrt import target
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
        table = TensorsData(
            CalibrationMethod.MinMax,
            {v: (np.float32(-LARGEST), np.float32(LARGEST)) for v in values},
        )
        return quantize(graph, Ranges(table, "minmax", 0), TENSORRT)
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
