"""What all targets of ONNX Runtime share: file, session options, checks and errors."""

from __future__ import annotations

from typing import Any

import onnxruntime as ort

from tcn_export.errors import BundleError
from tcn_export.graph import Signature
from tcn_export.targets.external_data import has_external_data

_ERRORS = 3  # severity: its warnings speak to its own developers
RUNTIME_ERRORS = (
    ort.capi.onnxruntime_pybind11_state.EPFail,
    ort.capi.onnxruntime_pybind11_state.Fail,
    ort.capi.onnxruntime_pybind11_state.InvalidArgument,
    ort.capi.onnxruntime_pybind11_state.InvalidGraph,
    ort.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    ort.capi.onnxruntime_pybind11_state.NotImplemented,
    ort.capi.onnxruntime_pybind11_state.RuntimeException,
)
"""What the runtime raises where it refuses a model, or fails while it runs one."""


def session_options(threads: int) -> Any:
    """Options of a session; 0 threads takes all cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS
    return options


def open_on_cpu(model: bytes, signature: Signature, threads: int) -> Any:
    """A session on the CPU; 0 threads takes all cores.

    Raises:
        BundleError: The runtime does not accept the model, or it has other inputs.
    """
    check_self_contained(model)
    try:
        session = ort.InferenceSession(
            model, session_options(threads), providers=["CPUExecutionProvider"]
        )
    except RUNTIME_ERRORS as error:
        raise cannot("load", error) from error
    check_interface(session, signature)
    return session


def cannot(verb: str, error: Exception) -> BundleError:
    """The error for what the runtime said when it could not ``verb`` the model."""
    return BundleError(f"ONNX Runtime {ort.__version__} cannot {verb} the model: {error}")


def check_self_contained(model: bytes) -> None:
    """Raise `BundleError` where a model has weights outside itself, or is none."""
    try:
        outside = has_external_data(model)
    except ValueError as error:
        raise BundleError(f"the model is no ONNX file: {error}. Export it again.") from error
    if outside:
        raise BundleError(
            "the model points to weights in another file, which no hash covers. Save it with "
            "its weights inside, or export it again."
        )


def check_interface(session: Any, signature: Signature) -> None:
    """Raise `BundleError` where a session takes other inputs or gives no states."""
    taken = {value.name for value in session.get_inputs()}
    expected = {spec.name for spec in signature.inputs}
    expected |= {state.input for state in signature.states}
    if taken != expected:
        raise BundleError(
            f"the model takes the inputs {', '.join(sorted(taken)) or 'none'}, but it "
            f"should take {', '.join(sorted(expected)) or 'none'}. It was altered; export "
            "it again."
        )
    produced = {state.output for state in signature.states}
    given = {value.name for value in session.get_outputs()}
    if not produced <= given:
        raise BundleError(
            f"the model does not give the states {', '.join(sorted(produced - given))}. It "
            "was altered; export it again."
        )
