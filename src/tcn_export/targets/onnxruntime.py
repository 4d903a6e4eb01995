"""ONNX Runtime on the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from tcn_export.data import Array
from tcn_export.errors import UnsupportedModelError
from tcn_export.graph import Graph, Signature
from tcn_export.targets.base import (
    Artifact,
    Mode,
    Precision,
    Runner,
    check_feeds,
    symbol_sizes,
)
from tcn_export.targets.hops import HopRunner
from tcn_export.targets.model_file import MODEL_FILE, serialize
from tcn_export.targets.session import (
    RUNTIME_ERRORS,
    cannot,
    open_on_cpu,
    session_options,
)
from tcn_export.targets.states import CarriedStates

if TYPE_CHECKING:
    import onnx_ir as ir

_PROVIDERS = ["CPUExecutionProvider"]


class OnnxRuntimeRunner:
    """Runs an ONNX model in ONNX Runtime on the CPU.

    Args:
        model: The serialised model.
        signature: What it takes and gives.
        threads: Threads within an operator; 0 takes all cores.

    Raises:
        BundleError: The runtime does not accept the model.
    """

    def __init__(self, model: bytes, signature: Signature, threads: int = 0) -> None:
        self.signature = signature
        self._session = open_on_cpu(model, signature, threads)
        self._names = [output.name for output in self._session.get_outputs()]
        self._states = CarriedStates(signature.states)

    def reset(self) -> None:
        """Forget the states; see `Runner.reset`."""
        self._states.reset()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs, by name; see `Runner.run`."""
        check_feeds(self.signature, feeds)
        states = self._states.inputs(symbol_sizes(self.signature, feeds))
        try:
            values = self._session.run(self._names, {**feeds, **states})
        except RUNTIME_ERRORS as error:
            raise cannot("run", error) from error
        return self._states.carry(dict(zip(self._names, values, strict=True)))


def check_available() -> None:
    """A CPU is always there."""


def build(
    graph: Graph,
    precision: Precision,
    settings: Mapping[str, Any] | None = None,
    mode: Mode = "window",
) -> Artifact:
    """Make the artifact of a finished graph."""
    return Artifact(
        "onnx",
        precision,
        mode,
        MODEL_FILE,
        serialize(graph),
        graph.signature,
        dict(settings or {}),
    )


def runner(artifact: Artifact, threads: int = 0) -> Runner:
    """Make a runner for an artifact: `HopRunner` for a stream, else `OnnxRuntimeRunner`."""
    make = HopRunner if artifact.mode == "stream" else OnnxRuntimeRunner
    return make(artifact.files[artifact.model], artifact.signature, threads)


def optimized_model(artifact: Artifact, on_arm: bool = False) -> ir.Model:
    """The graph that ONNX Runtime really executes for an artifact, on this machine.

    Args:
        artifact: Of this target.
        on_arm: Fuse as on ARM, where signed activations too are computed on integers.

    Raises:
        UnsupportedModelError: The runtime has no kernel for one of its operators.
    """
    import onnx_ir as ir

    with tempfile.TemporaryDirectory(prefix="tcn-export-") as folder:
        path = Path(folder) / "optimized.onnx"
        options = session_options(threads=1)
        options.optimized_model_filepath = str(path)
        if on_arm:
            options.add_session_config_entry("session.qdqisint8allowed", "1")
        try:
            ort.InferenceSession(artifact.files[artifact.model], options, providers=_PROVIDERS)
        except RUNTIME_ERRORS as error:
            raise UnsupportedModelError(
                f"ONNX Runtime {ort.__version__} cannot run the graph: {error}"
            ) from error
        return ir.load(path)
