"""The CUDA target: a silent fallback is found in every way; and what needs a GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from support import TINY_TCN, make_checkpoint, make_data, make_source, run
from targets.stateful import CHANNELS, stateful_graph, whole
from tcn_export.bench import measure_latency
from tcn_export.bundle import load_bundle
from tcn_export.capture import capture
from tcn_export.cli.export import main as export_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.errors import BundleError, TargetUnavailableError, UsageError
from tcn_export.models.resnet1d import ResNet1dConfig
from tcn_export.options import ExportOptions
from tcn_export.parity.tolerance import float32_limit
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.plans import PLANS
from tcn_export.targets import cuda, onnxruntime
from tcn_export.targets.cuda_driver import ask_driver
from tcn_export.targets.model_file import MODEL_FILE
from tcn_export.targets.node_types import integer_nodes
from tcn_export.targets.providers import (
    CPU,
    CUDA,
    open_session,
    recording,
    require_assigned,
    require_device,
    require_first,
    require_no_fallback,
)
from tcn_export.targets.session import session_options

OPTIONS = partial(session_options, 1)
HOW = ".*'tcn-export\\[gpu\\]'.*cuDNN 9"

WARNS = pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
"""A build for the CPU warns of what one for GPUs passes over."""


@pytest.fixture
def no_cuda_device():
    if ask_driver().devices:
        pytest.skip("this machine has a CUDA device; the errors of one without cannot come")


@pytest.fixture(scope="module")
def model():
    return onnxruntime.build(stateful_graph(), "float32").files[MODEL_FILE]


def session_on(provider, model, options=None):
    """What ONNX Runtime makes of a request."""
    return ort.InferenceSession(model, options or OPTIONS(), providers=[provider])


@WARNS
def test_a_session_that_fell_back_is_found_by_its_providers(no_cuda_device, model):
    fallen = session_on(CUDA, model)  # no error comes from ONNX Runtime: that is the trap
    with pytest.raises(TargetUnavailableError, match=f"fell back to {CPU}{HOW}") as error:
        require_first(fallen, CUDA)
    assert error.value.exit_code == 4
    require_first(session_on(CPU, model), CPU)


@WARNS
def test_a_session_that_would_fall_back_is_forbidden(no_cuda_device, model):
    with pytest.raises(TargetUnavailableError, match=f"to the CPU, which was forbidden{HOW}"):
        require_no_fallback(model, CUDA, {}, OPTIONS)


@WARNS
def test_forbidding_the_fallback_finds_other_faults_too():
    with pytest.raises(BundleError, match="cannot load the model"):
        require_no_fallback(b"\x08\x0a", CUDA, {}, OPTIONS)


def test_nodes_elsewhere_are_named(model):
    elsewhere = session_on(CPU, model, recording(OPTIONS()))
    with pytest.raises(
        TargetUnavailableError, match=f"conv_0 \\(Conv on {CPU}\\).*, y \\(Conv{HOW}"
    ):
        require_assigned(elsewhere, CUDA, model)
    require_assigned(elsewhere, CPU, model)


def test_arithmetic_of_shapes_may_be_elsewhere():
    text = """<ir_version: 10, opset_import: ["" : 18]>
    g (float[batch,length] x) => (float[batch,length] y) <int64[1] one = {1}>
    {
        shape = Shape(x)
        steps = Gather<axis = 0>(shape, one)
        number = Cast<to = 1>(steps)
        y = Div(x, number)
    }"""
    parsed = onnx.parser.parse_model(text)
    for node in parsed.graph.node:
        node.name = node.output[0]
    raw = onnx.shape_inference.infer_shapes(parsed).SerializeToString()
    with pytest.raises(TargetUnavailableError) as error:
        require_assigned(session_on(CPU, raw, recording(OPTIONS())), CUDA, raw)
    assert f"elsewhere: y (Div on {CPU}). It needs" in str(error.value)


def test_arithmetic_of_shapes_is_known_in_an_export(tmp_path):
    source = make_source(tmp_path / "model.pt", replace(TINY_TCN, head="mean"))
    graph = run_plan(PLANS["cuda"], capture(source, None, 20))
    known = integer_nodes(cuda.build(graph, "float32").files[MODEL_FILE])
    found = {node.op_type for node in graph.model.graph if node.name in known}
    assert found == {"Shape", "Neg", "Mod", "Concat", "Cast"}


def test_a_version_that_keeps_no_record_says_so(model):
    older = SimpleNamespace(get_providers=lambda: [CUDA, CPU])
    with pytest.raises(TargetUnavailableError, match="this version cannot tell which"):
        require_assigned(older, CUDA, model)


def test_a_machine_without_a_device_is_found_before_any_session(no_cuda_device):
    with pytest.raises(
        TargetUnavailableError, match=f"its devices are those of {CPU}.*no CUDA device{HOW}"
    ):
        require_device(CUDA)
    require_device(CPU)


def test_all_ways_together_refuse(no_cuda_device, model):
    with pytest.raises(TargetUnavailableError, match=HOW):
        open_session(model, CUDA, {}, OPTIONS)
    artifact = cuda.build(stateful_graph(), "float32")
    with pytest.raises(TargetUnavailableError, match=HOW):
        cuda.runner(artifact)


def test_the_file_is_that_of_the_cpu():
    graph = stateful_graph()
    artifact = cuda.build(graph, "float32", {"cuda_graph": True})
    assert artifact.files == onnxruntime.build(graph, "float32").files
    assert (artifact.target, artifact.settings) == ("cuda", {"cuda_graph": True})


def test_a_setting_of_another_kind_is_an_error():
    artifact = cuda.build(stateful_graph(), "float32", {"cuda_graph": "yes"})
    with pytest.raises(BundleError, match="`cuda_graph` is 'yes'; expected true or false"):
        cuda.runner(artifact)


def test_export_ends_with_4_before_any_work(no_cuda_device, tmp_path):
    out = tmp_path / "out"
    ran = run(export_command, tmp_path / "none.pt", "--target", "cuda", "--out", out)
    assert ran.code == 4
    assert "does not compute on CUDAExecutionProvider here" in ran.stderr
    assert "'tcn-export[gpu]'" in ran.stderr
    assert ran.stdout == ""
    assert "Reading" not in ran.stderr
    assert not out.exists()


def test_verifying_a_bundle_for_a_gpu_ends_with_4(no_cuda_device, tiny_model, tmp_path):
    ran = run(export_command, tiny_model, "--target", "onnx", "--out", tmp_path, "-q")
    assert ran.code == 0
    manifest = tmp_path / "tiny-onnx-float32" / "manifest.json"
    entries = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**entries, "target": "cuda"}))
    ran = run(verify_command, manifest.parent)
    assert ran.code == 4
    assert "does not compute on CUDAExecutionProvider here" in ran.stderr


def test_int8_is_refused_and_the_target_for_it_named(tiny_data):
    with pytest.raises(UsageError, match=r"in float on CUDA.*--target trt"):
        ExportOptions(target="cuda", precision="int8", data=tiny_data)


def test_cuda_graphs_are_for_gpus():
    with pytest.raises(UsageError, match="for the targets cuda and trt, not for onnx"):
        ExportOptions(cuda_graph=True)
    assert ExportOptions(target="cuda", cuda_graph=True).cuda_graph


NETWORKS = {
    "tcn": TINY_TCN,
    "tcn-mean": replace(TINY_TCN, head="mean"),
    "resnet1d": ResNet1dConfig(in_channels=3, outputs=4, widths=(8, 12), strides=(1, 2)),
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("extra", [[], ["--cuda-graph"], ["--length", "dynamic"]])
def test_exports_are_verified_on_the_device(cuda_device, tmp_path, name, extra):
    model = make_checkpoint(tmp_path / "model.pt", NETWORKS[name])
    data = make_data(tmp_path / "data.npz", model)
    told = ["--target", "cuda", "--data", data, "--out", tmp_path, "--json", *extra]
    ran = run(export_command, model, *told)
    assert ran.code == 0, ran.stderr
    assert ran.json["verified"] is True
    assert ran.json["settings"] == ({"cuda_graph": True} if "--cuda-graph" in extra else {})
    assert run(verify_command, ran.json["bundle"], "--data", data, "-q").code == 0


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{}, {"cuda_graph": True}])
@pytest.mark.parametrize(("batch", "hop", "steps"), [(1, 1, 10_000), (3, 5, 10_000)])
def test_states_stay_right_over_many_steps(cuda_device, settings, batch, hop, steps):
    running = cuda.runner(cuda.build(stateful_graph(hop), "float32", settings))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, CHANNELS, steps)).astype(np.float32)
    truth = whole(x)
    limit = float32_limit(0.0, float(np.abs(truth).max()))
    for _ in range(2):  # the second time after a reset
        answers = [
            running.run({"x": x[:, :, start : start + hop]})["y"]
            for start in range(0, steps, hop)
        ]
        assert np.abs(np.concatenate(answers, axis=2) - truth).max() <= limit
        running.reset()


@pytest.mark.gpu
def test_a_captured_graph_computes_what_the_kernels_compute(cuda_device, tmp_path):
    graph = capture(make_source(tmp_path / "model.pt"), 24, 20)
    plain = cuda.runner(cuda.build(graph, "float32"))
    captured = cuda.runner(cuda.build(graph, "float32", {"cuda_graph": True}))
    rng = np.random.default_rng(0)
    for batch in [1, 4, 1, 2, 4, 4]:  # captured, replayed, and other shapes between
        x = {"signal": rng.standard_normal((batch, 3, 24)).astype(np.float32)}
        expected = plain.run(x)["logits"]
        limit = float32_limit(0.0, float(np.abs(expected).max()))
        assert np.abs(captured.run(x)["logits"] - expected).max() <= limit


@pytest.mark.gpu
def test_latency_beside_the_cpu(cuda_device, tiny_model, tmp_path, capsys):
    feeds = {"signal": np.zeros((1, 3, 24), np.float32)}
    told = {
        "CPU": ["--target", "onnx"],
        "CUDA": ["--target", "cuda"],
        "CUDA graph": ["--target", "cuda", "--cuda-graph"],
    }
    for name, options in told.items():
        out = tmp_path / name
        ran = run(export_command, tiny_model, *options, "--out", out, "--json")
        assert ran.code == 0, ran.stderr
        measured = measure_latency(load_bundle(ran.json["bundle"]).runner(1), feeds, 1)
        assert 0 < measured.median_us <= measured.p99_us
        with capsys.disabled():
            line = f"{name}: {measured.median_us:.0f} us, p99 {measured.p99_us:.0f} us"
            print(f"\n{line}, host to host")  # noqa: T201  # what the test is run for
