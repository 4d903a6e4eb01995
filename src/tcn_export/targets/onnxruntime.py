"""ONNX Runtime on the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from tcn_export.data import Array
from tcn_export.errors import BundleError, UnsupportedModelError
from tcn_export.graph import Graph, Signature
from tcn_export.targets.base import (
    Artifact,
    Precision,
    Runner,
    check_feeds,
    symbol_sizes,
)
from tcn_export.targets.external_data import has_external_data
from tcn_export.targets.states import CarriedStates

if TYPE_CHECKING:
    import onnx_ir as ir

MODEL_FILE = "model.onnx"
_ERRORS = 3  # severity: its warnings speak to its own developers
_RUNTIME_ERRORS = (
    ort.capi.onnxruntime_pybind11_state.Fail,
    ort.capi.onnxruntime_pybind11_state.InvalidArgument,
    ort.capi.onnxruntime_pybind11_state.InvalidGraph,
    ort.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    ort.capi.onnxruntime_pybind11_state.NotImplemented,
    ort.capi.onnxruntime_pybind11_state.RuntimeException,
)


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
        options = _options(threads)
        _check_self_contained(model)
        try:
            self._session = ort.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except _RUNTIME_ERRORS as error:
            raise BundleError(
                f"ONNX Runtime {ort.__version__} cannot load the model: {error}"
            ) from error
        self._names = [output.name for output in self._session.get_outputs()]
        self._states = CarriedStates(signature.states)
        taken = {value.name for value in self._session.get_inputs()}
        expected = {spec.name for spec in signature.inputs}
        expected |= {state.input for state in signature.states}
        if taken != expected:
            raise BundleError(
                f"the model takes the inputs {', '.join(sorted(taken)) or 'none'}, but it "
                f"should take {', '.join(sorted(expected)) or 'none'}. It was altered; export "
                "it again."
            )
        produced = {state.output for state in signature.states}
        if not produced <= set(self._names):
            missing = ", ".join(sorted(produced - set(self._names)))
            raise BundleError(
                f"the model does not give the states {missing}. It was altered; export it "
                "again."
            )

    def reset(self) -> None:
        """Forget the states; see `Runner.reset`."""
        self._states.reset()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs, by name; see `Runner.run`."""
        check_feeds(self.signature, feeds)
        states = self._states.inputs(symbol_sizes(self.signature, feeds))
        try:
            values = self._session.run(self._names, {**feeds, **states})
        except _RUNTIME_ERRORS as error:
            raise BundleError(
                f"ONNX Runtime {ort.__version__} cannot run the model: {error}"
            ) from error
        return self._states.carry(dict(zip(self._names, values, strict=True)))


def build(graph: Graph, precision: Precision) -> Artifact:
    """Make the artifact of a finished graph."""
    import onnx_ir as ir  # exporting only: running a bundle must not need it

    model = ir.to_proto(graph.model).SerializeToString()
    return Artifact(
        "onnx", precision, "window", MODEL_FILE, {MODEL_FILE: model}, graph.signature
    )


def runner(artifact: Artifact, threads: int = 0) -> Runner:
    """Make a runner for an artifact; see `OnnxRuntimeRunner`."""
    return OnnxRuntimeRunner(artifact.files[artifact.model], artifact.signature, threads)


def optimized_model(artifact: Artifact) -> ir.Model:
    """The graph that ONNX Runtime really executes for an artifact, on this machine.

    Raises:
        UnsupportedModelError: The runtime has no kernel for one of its operators.
    """
    import onnx_ir as ir

    with tempfile.TemporaryDirectory(prefix="tcn-export-") as folder:
        path = Path(folder) / "optimized.onnx"
        options = _options(threads=1)
        options.optimized_model_filepath = str(path)
        try:
            ort.InferenceSession(
                artifact.files[artifact.model], options, providers=["CPUExecutionProvider"]
            )
        except _RUNTIME_ERRORS as error:
            raise UnsupportedModelError(
                f"ONNX Runtime {ort.__version__} cannot run the graph: {error}"
            ) from error
        return ir.load(path)


def _check_self_contained(model: bytes) -> None:
    try:
        outside = has_external_data(model)
    except ValueError as error:
        raise BundleError(f"the model is no ONNX file: {error}. Export it again.") from error
    if outside:
        raise BundleError(
            "the model points to weights in another file, which no hash covers. Save it with "
            "its weights inside, or export it again."
        )


def _options(threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS
    return options
