"""Settings and costly things that many tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest
import torch

from bundles import slowed, write_candidates
from support import make_checkpoint, make_data, run
from tcn_export.bundle import Bundle
from tcn_export.cli.export import main as export_command
from tcn_export.targets.cuda_driver import ask_driver

hypothesis.settings.register_profile(
    # The same examples every time: a commit is not to blame for what chance finds. Chance has
    # the thorough profile.
    "fast",
    deadline=None,
    max_examples=25,
    database=None,
    print_blob=True,
    derandomize=True,
)
hypothesis.settings.register_profile(
    "thorough", deadline=None, max_examples=300, database=None, print_blob=True
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

torch.set_num_threads(1)  # the networks are tiny, and the tests run side by side

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
BENCH = SHARED.with_name("bench")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the tests, and the processes that they start, out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TCN_EXPORT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real signals beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"real signals are not there: {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def shared_bench() -> Path:
    """The folder of reference networks, written as users write them, beside the checkout."""
    if not (BENCH / "user_models.py").is_file():
        pytest.skip(f"the reference networks are not there: {BENCH}")
    return BENCH


@pytest.fixture(scope="session")
def cuda_device() -> None:
    """For tests that need a GPU; asks driver and runtime, not the code that is tested."""
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this build of ONNX Runtime has no CUDA provider")
    driver = ask_driver()
    if not driver.devices:
        pytest.skip(driver.problem)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small, untrained, cropped TCN with BatchNorm."""
    return make_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.pt")


@pytest.fixture(scope="session")
def tiny_data(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows for `tiny_model`, labelled with its own answers."""
    return make_data(tmp_path_factory.mktemp("tiny-data") / "tiny.npz", tiny_model, 300)


@pytest.fixture(scope="session")
def tiny_exports(
    tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Bundles of `tiny_model` for the CPU, by precision; copy what you change."""
    out = tmp_path_factory.mktemp("tiny-exports")
    for precision, more in (("float32", []), ("int8", ["--data", tiny_data, "--max-drop", 5])):
        options = ["--target", "onnx", "--precision", precision, *more, "--out", out, "-q"]
        assert run(export_command, tiny_model, *options).code == 0
    return {precision: out / f"tiny-onnx-{precision}" for precision in ("float32", "int8")}


@pytest.fixture
def tunable(tiny_exports: dict[str, Path], tmp_path: Path) -> Bundle:
    """A bundle with candidates: on a machine far away the slow one was the fastest."""
    path = shutil.copytree(tiny_exports["float32"], tmp_path / "bundle")
    model = (path / "model.onnx").read_bytes()
    models = {"slow": slowed(model, 400), "lean": model, "slower": slowed(model, 800)}
    return write_candidates(path, models, choice="slow")


@pytest.fixture(scope="session")
def rtx() -> str:
    """TensorRT for RTX, which parses and builds without a device: NVIDIA's own code."""
    if find_spec("tensorrt_rtx") is None:
        pytest.skip(
            "tensorrt_rtx is not installed: its wheels are for Linux and Windows on x86"
        )
    return "tensorrt_rtx"
