"""The code of the device, as far as it goes without one; where there is one, see test_gpu."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from functools import partial
from types import SimpleNamespace

import onnx_ir as ir
import pytest

from targets.stateful import stateful_graph
from tcn_export.errors import BundleError, TargetUnavailableError
from tcn_export.targets.cuda_driver import Device, Driver
from tcn_export.targets.onnxruntime import build
from tcn_export.targets.tensorrt import worker
from tcn_export.targets.tensorrt.builder import BuildError
from tcn_export.targets.tensorrt.cudart import Cuda
from tcn_export.targets.tensorrt.engine import EngineRunner
from tcn_export.targets.tensorrt.journal import Journal, created
from tcn_export.targets.tensorrt.probe import Probe, probe
from tcn_export.targets.tensorrt.request import BuildRequest, check_settings
from tcn_export.targets.tensorrt.runner import open_engine
from tcn_export.targets.tensorrt.settings import TensorRTSettings, profiles
from tcn_export.targets.tensorrt.versions import version_name
from tcn_export.targets.tensorrt.worker import build_in_child

HERE = probe()
no_device = pytest.mark.skipif(
    bool(HERE.driver.devices), reason="this machine has a CUDA device"
)
SHAPES = {
    "x": [[1, 3, 1]] * 2 + [[4, 3, 1]],
    "past_0": [[1, 3, 2]] * 2 + [[4, 3, 2]],
    "past_1": [[1, 8, 8]] * 2 + [[4, 8, 8]],
}


@pytest.fixture(scope="module")
def stateful_model(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("stateful") / "model.onnx"
    ir.save(stateful_graph().model, path)
    return str(path)


@no_device
def test_probe_finds_no_device_and_imports_nothing():
    assert HERE.driver.devices == ()
    assert HERE.why_not().startswith("no CUDA device")
    assert "tensorrt" not in sys.modules


def test_full_tensorrt_goes_before_rtx():
    driver = Driver("12.6", (Device("GPU", "8.9", 8192, is_integrated=False),), "")
    both = Probe(driver, {"tensorrt": "10.3.0", "tensorrt_rtx": "1.7"})
    assert both.runtime() == "tensorrt"
    assert both.runtime("rtx") == "tensorrt_rtx"
    assert both.why_not() is None
    rtx_only = Probe(driver, {"tensorrt_rtx": "1.7"})
    assert rtx_only.runtime() == "tensorrt_rtx"
    assert rtx_only.why_not("tensorrt") == "tensorrt is not installed"
    assert Probe(driver, {}).why_not() == "tensorrt is not installed"


def test_a_stateful_graph_is_built_by_nvidia(rtx, stateful_model):
    shares: list[float] = []
    built = build_in_child(BuildRequest(stateful_model, rtx, SHAPES, 2**26), shares.append)
    assert [(c.kernel, c.dilation, c.pads_before) for c in built.convolutions] == [
        ([3, 1], [1, 1], [0, 0]),
        ([3, 1], [4, 1], [0, 0]),
    ]
    assert len(built.plan) > 10_000
    assert shares
    assert max(shares) <= 1
    assert built.log == []


def test_what_the_builder_refuses_is_said_in_its_words(rtx, stateful_model):
    with pytest.raises(BuildError, match="no optimization profile"):
        build_in_child(BuildRequest(stateful_model, rtx, {}, 2**26), lambda _: None)


def test_what_the_parser_refuses_is_said_in_its_words(rtx, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(BuildError, match="Failed to parse"):
        build_in_child(
            BuildRequest(str(tmp_path / "bad.onnx"), rtx, {}, 2**26), lambda _: None
        )


def test_a_missing_library_is_not_a_crash(stateful_model):
    request = BuildRequest(stateful_model, "tensorrt_of_mars", SHAPES, 2**26)
    with pytest.raises(TargetUnavailableError, match="tensorrt_of_mars cannot be imported"):
        build_in_child(request, lambda _: None)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (f"import os; os.kill(os.getpid(), {signal.SIGSEGV:d})", r"crashed \(SIGSEGV\)"),
        ("import sys; print('out of luck', file=sys.stderr); sys.exit(3)",
         r"ended with exit code 3; its last words: out of luck"),
    ],
)  # fmt: skip
def test_a_crash_of_the_builder_is_an_error_message(
    code, message, stateful_model, monkeypatch
):
    """A real process that really crashes, as NVIDIA's code does without a driver."""
    monkeypatch.setattr(worker, "_command", lambda _: [sys.executable, "-c", code])
    with pytest.raises(BuildError, match=message):
        build_in_child(BuildRequest(stateful_model, "any", SHAPES, 2**26), lambda _: None)


def test_a_crash_within_the_library_is_an_error_message(stateful_model, tmp_path, monkeypatch):
    (tmp_path / "crashing_runtime.py").write_text("import os; os.abort()")
    monkeypatch.setenv(
        "PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    )
    with pytest.raises(BuildError, match=r"crashed \(SIGABRT\)"):
        build_in_child(
            BuildRequest(stateful_model, "crashing_runtime", SHAPES, 2**26), lambda _: None
        )


@no_device
def test_an_engine_that_does_not_run_here_is_refused_in_nvidias_words(rtx, stateful_model):
    """NVIDIA's runtime, without a device; one that it does not support is in test_gpu."""
    trt = importlib.import_module(rtx)
    built = build_in_child(BuildRequest(stateful_model, rtx, SHAPES, 2**26), lambda _: None)
    with pytest.raises(
        TargetUnavailableError,
        match=r"tensorrt_rtx 1\.\S+ does not run the engine on this device: .*CUDA",
    ):
        EngineRunner(trt, built.plan, cuda=None)


def test_a_library_that_gives_nothing_says_why():
    """The bindings' own words, with no driver, for a builder and for a runtime."""

    def nothing():
        journal.remarks.append("CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    journal, trt = Journal(), SimpleNamespace(__name__="tensorrt", __version__="10.3.0")
    with pytest.raises(
        TargetUnavailableError, match=r"tensorrt 10\.3\.0 cannot work here: CUDA .* error: 35"
    ):
        created(trt, nothing, journal)
    with pytest.raises(TypeError, match="ours"):
        created(trt, partial(_raise, TypeError("ours")), journal)


def _raise(error):
    raise error


@no_device
def test_no_cuda_runtime_is_claimed_without_a_device():
    with pytest.raises(TargetUnavailableError, match=r"libcudart|CUDA error"):
        Cuda()


@no_device
def test_an_engine_is_not_opened_without_a_device(stateful_model):
    settings = TensorRTSettings().to_json(stateful_graph().signature, (1, 1, 1), False)
    artifact = build(stateful_graph(), "float32")
    artifact = type(artifact)("trt", "float32", "window", "model.onnx", artifact.files,
                              artifact.signature, settings)  # fmt: skip
    with pytest.raises(TargetUnavailableError, match=r"cannot run here: no CUDA device"):
        open_engine(artifact)


def test_profiles_hold_every_symbol_of_inputs_and_states():
    signature = stateful_graph().signature
    assert profiles(signature, 4, (1, 1, 1)) == SHAPES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runtime": 3}, "the setting `runtime` of the bundle is 3"),
        ({"runtime": "mars"}, "the setting `runtime` of the bundle is 'mars'"),
        ({"workspace_bytes": -1}, "the setting `workspace_bytes` of the bundle is -1"),
        ({"dla_core": -1}, "the setting `dla_core` of the bundle is -1"),
        ({"cuda_graph": None}, "the setting `cuda_graph` of the bundle is None"),
        ({"profiles": {"x": [[1], [1]]}}, r"the profile of `x` is \[\[1\], \[1\]\]"),
        ({"profiles": {"x": [[1], [1], [0]]}}, "expected three shapes"),
    ],
)
def test_settings_of_a_stranger_are_checked(change, message):
    settings = TensorRTSettings().to_json(stateful_graph().signature, (1, 1, 1))
    assert check_settings(settings) == settings
    with pytest.raises(BundleError, match=message):
        check_settings(settings | change)
    with pytest.raises(BundleError, match="is 'missing'"):
        check_settings({})


@pytest.mark.parametrize(
    ("module", "version", "name"),
    [
        ("tensorrt", "10.3.0", "10.3"),
        ("tensorrt", "10.13.2.6", "10.3"),
        ("tensorrt", "10.16.1.11", "10.16"),
        ("tensorrt", "11.4.0.106", "11"),
        ("tensorrt_rtx", "1.7.1.116", "rtx"),
    ],
)
def test_an_installed_version_has_its_dialect(module, version, name):
    assert version_name(module, version) == name


def test_a_library_that_is_too_old_is_no_library():
    driver = Driver("12.2", (Device("Orin", "8.7", 7619, is_integrated=True),), "")
    assert Probe(driver, {"tensorrt": "8.6.2"}).why_not() == (
        "tensorrt 8.6.2 is too old, 10.3 or newer is needed"
    )
    assert Probe(driver, {"tensorrt": "10.3.0"}).why_not() is None
    assert Probe(driver, {"tensorrt": ""}).why_not() is None, "unknown is not too old"
