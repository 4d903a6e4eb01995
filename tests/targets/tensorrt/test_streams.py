"""One hop of every kind of stream: linted, parsed and built by NVIDIA's own code."""

from __future__ import annotations

import pytest

from targets.streams import CASES, Case, streamed
from tcn_export.graph import BATCH
from tcn_export.progress import Silent
from tcn_export.targets.cuda_driver import ask_driver
from tcn_export.targets.tensorrt import target
from tcn_export.targets.tensorrt.deployment import deploy
from tcn_export.targets.tensorrt.settings import TensorRTSettings

pytestmark = pytest.mark.skipif(bool(ask_driver().devices), reason="there is a CUDA device")
USER_MODELS = {"tcn_har_every_step": (9, 512), "tcn_wide_every_step": (16, 1024)}


def built_by_nvidia(graph, precision="float32"):
    settings = TensorRTSettings(batch=4).to_json(graph.signature, (1, 1, 1))
    deployed = deploy(target.build(graph, precision, settings), graph.model, Silent())
    assert "accepted by NVIDIA's parser" in deployed.builder["parser"]
    assert deployed.builder["log"] == []
    return deployed


OLDER = ("looking ahead, hop 4", "strided, running mean", "mean of a window")


@pytest.mark.parametrize(
    ("name", "opset"), [*((name, 20) for name in CASES), *((name, 18) for name in OLDER)]
)
def test_nvidia_builds_every_kind_of_stream(name, opset, rtx):
    graph, _ = streamed(CASES[name], opset)
    deployed = built_by_nvidia(graph)
    assert set(deployed.convolutions.values()) == {"float32"}
    batched = {s.input for s in graph.signature.states if BATCH in s.shape}
    assert set(deployed.artifact.settings["profiles"]) == {"signal"} | batched


@pytest.mark.parametrize("hop", [1, 16])
@pytest.mark.parametrize("name", USER_MODELS)
def test_nvidia_builds_users_networks_as_streams(name, hop, rtx, shared_bench, monkeypatch):
    monkeypatch.syspath_prepend(shared_bench)
    channels, length = USER_MODELS[name]
    graph, _ = streamed(Case(f"user_models:{name}", hop, None, channels, length))
    assert set(built_by_nvidia(graph).convolutions.values()) == {"float32"}


def test_nvidia_builds_a_strided_resnet_with_a_running_mean(rtx, shared_bench, monkeypatch):
    monkeypatch.syspath_prepend(shared_bench)
    graph, _ = streamed(Case("user_models:resnet_ecg", 64, 0, 12, 1024))
    assert "int64" in {state.dtype for state in graph.signature.states}
    assert set(built_by_nvidia(graph).convolutions.values()) == {"float32"}
