"""Engines of streams on a device: ``pytest -m gpu``."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from kit.stream_kit import write_stream_kit
from targets.streams import CASES, check_stream, streamed
from tcn_export.progress import Silent
from tcn_export.targets.streamed import StreamedRunner
from tcn_export.targets.tensorrt import target
from tcn_export.targets.tensorrt.deployment import deploy
from tcn_export.targets.tensorrt.probe import probe
from tcn_export.targets.tensorrt.runner import open_engine
from tcn_export.targets.tensorrt.settings import TensorRTSettings

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("device")]
STEPS = 10_000


def opened(name: str, cuda_graph: bool):
    graph, module = streamed(CASES[name])
    settings = TensorRTSettings(batch=2).to_json(graph.signature, (1, 1, 1), cuda_graph)
    artifact = replace(target.build(graph, "float32", settings), mode="stream")
    deployed = deploy(artifact, graph.model, Silent())
    assert deployed.missing == ""
    return open_engine(deployed.artifact), graph.signature, module


@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_stream_over_10000_steps(name, cuda_graph):
    running, signature, module = opened(name, cuda_graph)
    check_stream(running, signature, module, CASES[name], STEPS)
    if cuda_graph and probe().runtime() == "tensorrt":  # TensorRT for RTX captures by itself
        assert len(running.loaded._graphs) == 2, "one for each turn of the buffers"


def test_more_streams_than_the_engine_takes_are_run_in_parts():
    running, signature, _ = opened("every, hop 16", cuda_graph=False)
    x = np.random.default_rng(0).standard_normal((5, 3, 64)).astype(np.float32)
    (output,) = signature.outputs
    whole = StreamedRunner(running, signature)
    joined = whole.run({"signal": x})[output.name]
    alone = [whole.run({"signal": x[i : i + 1]})[output.name] for i in range(5)]
    np.testing.assert_allclose(joined, np.concatenate(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [[], ["--cuda-graph"]])
@pytest.mark.parametrize("name", ["every, hop 1", "looking ahead, hop 4", "running mean"])
def test_the_script_of_a_kit_proves_a_stream_and_runs_it_for_long(name, options, tmp_path):
    kit = write_stream_kit(tmp_path / "kit", CASES[name])
    command = [sys.executable, f"{kit.folder}/build_engine.py", "--stream", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)  # noqa: T201  # the figures are what it is run for
    assert done.returncode == 0, done.stderr
    assert "streamed 10,000 hops of" in done.stdout
    told = json.loads((tmp_path / "kit" / "device_report.json").read_text())
    assert told["verdict"] == "pass"
    assert told["stream"]["changes_per_repetition"]["judged"]
