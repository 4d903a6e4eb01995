"""The runner of a TensorRT artifact: finds its engine, and checks what it is fed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from tcn_export.data import Array
from tcn_export.errors import BundleError, TargetUnavailableError
from tcn_export.graph import Signature
from tcn_export.targets.base import Artifact, check_feeds, symbol_sizes
from tcn_export.targets.model_file import MODEL_FILE
from tcn_export.targets.tensorrt.cudart import Cuda
from tcn_export.targets.tensorrt.engine import EngineRunner, largest_batch
from tcn_export.targets.tensorrt.probe import RTX, Probe, probe
from tcn_export.targets.tensorrt.request import check_settings
from tcn_export.targets.tensorrt.sidecar import (
    ENGINE_FILE,
    SIDECAR_FILE,
    check_sidecar,
    read_sidecar,
)


class TensorRTRunner:
    """Runs an engine on the first CUDA device of this machine.

    Args:
        engine: The loaded engine.
        signature: What it takes and gives.
    """

    def __init__(self, engine: EngineRunner, signature: Signature) -> None:
        self.loaded = engine
        self.signature = signature

    @property
    def most_streams(self) -> int:
        """So many signals can be streamed at once."""
        return self.loaded.most_streams

    def reset(self) -> None:
        """Forget the states; see `Runner.reset`."""
        self.loaded.reset()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs, by name; see `Runner.run`."""
        check_feeds(self.signature, feeds)
        symbol_sizes(self.signature, feeds)
        return self.loaded.run(feeds)


def open_engine(artifact: Artifact, cuda_graph: bool | None = None) -> TensorRTRunner:
    """Load the engine of an artifact on this machine.

    Args:
        artifact: With an engine and its sidecar.
        cuda_graph: Launch as one captured graph; None takes the artifact's own setting.

    Raises:
        TargetUnavailableError: There is no device or no library.
        BundleError: The artifact holds no engine, or one of another machine.
    """
    found, settings = probe(), check_settings(artifact.settings)
    if ENGINE_FILE not in artifact.files or SIDECAR_FILE not in artifact.files:
        require_runtime(found, settings["runtime"])
        raise BundleError(
            "the bundle holds no engine yet: build it on this device with python3 "
            "build_engine.py, or export again here."
        )
    plan, model = artifact.files[ENGINE_FILE], artifact.files[MODEL_FILE]
    sidecar = read_sidecar(artifact.files[SIDECAR_FILE])
    # Whichever of the two built it runs it; where that is gone, the check below says so.
    built_with = "rtx" if sidecar["runtime"] == RTX else "tensorrt"
    module = require_runtime(
        found, built_with if sidecar["runtime"] in found.libraries else "auto"
    )
    trt = importlib.import_module(module)
    check_sidecar(sidecar, plan, model, module, trt.__version__, found.driver.devices[0])
    states = [(state.input, state.output) for state in artifact.signature.states]
    use_graph = settings["cuda_graph"] if cuda_graph is None else cuda_graph
    largest = largest_batch(settings["profiles"], states)
    engine = EngineRunner(trt, plan, Cuda(), states, use_graph, largest, settings["dla_core"])
    return TensorRTRunner(engine, artifact.signature)


def require_runtime(found: Probe, wanted: str) -> str:
    """The module to use here.

    Raises:
        TargetUnavailableError: There is no device or no library; says how to get it.
    """
    reason = found.why_not(wanted)
    module = found.runtime(wanted)
    if reason is not None or module is None:
        detail = f" ({found.driver.problem})" if found.driver.problem else ""
        raise TargetUnavailableError(
            f"the target trt cannot run here: {reason}{detail}. It needs an NVIDIA GPU with "
            "its driver, and TensorRT 10.3 or newer (pip install 'tcn-export[trt]' with "
            "NVIDIA's package index, or the system's package on a Jetson). On the device run "
            "python3 build_engine.py in the bundle."
        )
    return module
