"""One hop of every kind of stream: linted, parsed and built by NVIDIA's own code."""

from __future__ import annotations

import ast

import pytest

from support import run
from targets.streams import CASES, Case, streamed
from tcn_export.cli.export import main as export_command
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


@pytest.mark.parametrize(
    ("name", "hop"),
    [
        ("tcn_har_every_step", 1),
        pytest.param("tcn_har_every_step", 16, marks=pytest.mark.slow),
        pytest.param("tcn_wide_every_step", 1, marks=pytest.mark.slow),
        pytest.param("tcn_wide_every_step", 16, marks=pytest.mark.slow),
    ],
)
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


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_kit_of_a_stream_says_how_it_is_run(precision, rtx, tiny_model, tiny_data, tmp_path):
    how = ["--mode", "stream", "--hop", 4, "--data", tiny_data]
    ran = run(
        export_command, tiny_model, "--target", "trt", "--out", tmp_path, *how,
        "--precision", precision, "--json",
    )  # fmt: skip
    assert ran.code == 4, ran.stderr
    assert ran.json["builder"]["log"] == []
    (kit,) = tmp_path.iterdir()
    page = (kit / "README.md").read_text()
    assert "python3 build_engine.py --stream --cuda-graph" in page
    assert "takes 4 steps of the signal at a time" in page
    assert "the 50 Hz at which the signal comes" in page
    program = page.split("```python\n")[1].split("```")[0]
    names = {node.name for node in ast.parse((kit / "build_engine.py").read_text()).body
             if isinstance(node, ast.ClassDef)}  # fmt: skip
    (taken,) = [n for n in ast.parse(program).body if isinstance(n, ast.ImportFrom)]
    assert {alias.name for alias in taken.names} <= names
