"""The device of the tests that need one, or why it is not there."""

from __future__ import annotations

import pytest

from targets.stateful import stateful_graph
from tcn_export.progress import Silent
from tcn_export.targets.tensorrt import target
from tcn_export.targets.tensorrt.deployment import deploy
from tcn_export.targets.tensorrt.probe import probe
from tcn_export.targets.tensorrt.settings import TensorRTSettings

UNSUPPORTED = "does not support this compute capability"


def stateful_deployment(cuda_graph: bool = False):
    graph = stateful_graph()
    settings = TensorRTSettings(batch=2).to_json(graph.signature, (1, 1, 1), cuda_graph)
    return deploy(target.build(graph, "float32", settings), graph.model, Silent())


@pytest.fixture(scope="module")
def refusal():
    """Why the library does not take the first device, in NVIDIA's words; "" where it does."""
    found = probe()
    reason = found.why_not()
    if reason is not None:
        pytest.skip(f"{reason} ({found.driver.problem or 'TensorRT is missing'})")
    missing = stateful_deployment().missing
    return missing if UNSUPPORTED in missing else ""


@pytest.fixture(scope="module")
def device(refusal):
    """The first device; skips with the reason where nothing can be built and run on it."""
    if refusal:
        pytest.skip(refusal)
    return probe().driver.devices[0]
