"""Does ONNX Runtime really compute where it was told to? Else it falls back in silence.

A session that was asked for a GPU is created, and answers, on the CPU: where there is no
device, where a library of it is missing, and node by node where the GPU has no kernel. The
four questions below find that out; `open_session` asks them all.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from typing import Any

import onnxruntime as ort

from tcn_export.errors import BundleError, TargetUnavailableError
from tcn_export.targets.cuda_driver import ask_driver
from tcn_export.targets.node_types import integer_nodes
from tcn_export.targets.session import RUNTIME_ERRORS, cannot

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
_NO_FALLBACK = "session.disable_cpu_ep_fallback"
_RECORD = "session.record_ep_graph_assignment_info"
_FELL_BACK = "fallback to CPU EP has been explicitly disabled"
_TELLS = "get_provider_graph_assignment_info"  # the method that older versions lack
_FATAL = 4
_NAMED_NODES = 8

HOW_TO_GET = {
    CUDA: "It needs an NVIDIA GPU and its driver; ONNX Runtime for GPUs instead of that for "
    "the CPU (pip uninstall onnxruntime && pip install 'tcn-export[gpu]'); and CUDA 13 with "
    "cuDNN 9 (pip install 'onnxruntime-gpu[cuda,cudnn]' brings both)."
}
"""What a provider needs on a machine."""

ProviderOptions = Mapping[str, str]
MakeOptions = Callable[[], Any]
"""Makes fresh session options: a session keeps and changes those that it was given."""


def require_device(provider: str) -> None:
    """Raise `TargetUnavailableError` where the runtime or the machine has no such device.

    Needs no model, so it can be asked before any work. That ONNX Runtime lists a provider says
    only how it was built, and its list of devices lacks those of providers that are built in,
    rather than plugged in: the driver is asked about those.
    """
    built_in = ort.get_available_providers()
    listed = [device.ep_name for device in ort.get_ep_devices()]
    if provider in listed:
        return
    driver = ask_driver() if provider == CUDA else None
    if provider in built_in and driver is not None and driver.devices:
        return
    facts = [f"its devices are those of {', '.join(listed) or 'no provider'}"]
    if provider not in built_in:
        facts.append(f"it was built for {', '.join(built_in)} only")
    if driver is not None and driver.problem:
        facts.append(f"there is no CUDA device: {driver.problem}")
    raise _unavailable(provider, "; ".join(facts))


def require_first(session: Any, provider: str) -> None:
    """Raise `TargetUnavailableError` where a session did not take ``provider`` at all."""
    taken = session.get_providers()
    if not taken or taken[0] != provider:
        raise _unavailable(provider, f"the session fell back to {', '.join(taken) or 'none'}")


def require_no_fallback(
    model: bytes, provider: str, provider_options: ProviderOptions, make: MakeOptions
) -> Any:
    """Open a session in which no node at all may run on the CPU.

    Raises:
        TargetUnavailableError: A node would.
        BundleError: The runtime refuses the model for another reason.
    """
    options = recording(make())
    options.add_session_config_entry(_NO_FALLBACK, "1")
    options.log_severity_level = _FATAL  # a refusal is an answer here, and no error yet
    try:
        return _create(model, options, provider, provider_options)
    except BundleError as error:
        if _FELL_BACK not in str(error):
            raise
        raise _unavailable(
            provider, "the runtime gave nodes of the model to the CPU, which was forbidden"
        ) from error


def require_assigned(session: Any, provider: str, model: bytes) -> None:
    """Raise `TargetUnavailableError` where float arithmetic is not on ``provider``.

    The arithmetic of shapes may stay on the CPU: its numbers are few, and it cannot wait for
    a GPU to tell them.

    Args:
        session: Opened with the record of assignments; see `recording`.
        provider: Where the float arithmetic has to be.
        model: The model of the session; names of its integer nodes are read from it.
    """
    if not hasattr(session, _TELLS):
        raise _unavailable(
            provider,
            "nodes of the model run elsewhere, and this version cannot tell which; a newer "
            "one can",
        )
    harmless = integer_nodes(model)
    elsewhere = [
        f"{node.name or 'a nameless node'} ({node.op_type} on {part.ep_name})"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != provider
        for node in part.get_nodes()
        if node.name not in harmless
    ]
    if elsewhere:
        more = len(elsewhere) - _NAMED_NODES
        raise _unavailable(
            provider,
            "these nodes of the model would run elsewhere: "
            + ", ".join(elsewhere[:_NAMED_NODES])
            + (f" and {more} more" if more > 0 else ""),
        )


def recording(options: Any) -> Any:
    """Have a session remember which node it gave to whom."""
    options.add_session_config_entry(_RECORD, "1")
    return options


def open_session(
    model: bytes, provider: str, provider_options: ProviderOptions, make: MakeOptions
) -> Any:
    """Open a session whose float arithmetic runs on ``provider``, as all four questions say.

    In a version that keeps no record of its assignments, no node at all may be elsewhere.

    Raises:
        TargetUnavailableError: The provider cannot be had, or not for all of the arithmetic.
        BundleError: The runtime refuses the model for another reason.
    """
    require_device(provider)
    _load_libraries(provider)
    try:
        session = require_no_fallback(model, provider, provider_options, make)
        is_whole = True
    except TargetUnavailableError:  # the names of the nodes decide
        session = _create(model, recording(make()), provider, provider_options)
        is_whole = False
    require_first(session, provider)
    if hasattr(session, _TELLS) or not is_whole:
        require_assigned(session, provider, model)
    return session


def _create(
    model: bytes, options: Any, provider: str, provider_options: ProviderOptions
) -> Any:
    try:
        return ort.InferenceSession(
            model,
            options,
            providers=[(provider, dict(provider_options))],
            enable_fallback=0,  # else a wrong provider option is printed, and the CPU taken
        )
    except RUNTIME_ERRORS as error:
        raise cannot("load", error) from error
    except RuntimeError as error:  # a provider that cannot be made; the others are no such
        raise _unavailable(provider, f"it cannot be started ({error})") from error


def _load_libraries(provider: str) -> None:
    """Find CUDA and cuDNN among installed packages; the system's own are found without."""
    if provider == CUDA and hasattr(ort, "preload_dlls"):
        # It prints what it misses; what matters of that is told when the session is opened.
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()


def _unavailable(provider: str, found: str) -> TargetUnavailableError:
    advice = HOW_TO_GET.get(provider, f"It needs a build of ONNX Runtime with {provider}.")
    return TargetUnavailableError(
        f"ONNX Runtime {ort.__version__} does not compute on {provider} here: {found}. "
        f"{advice}"
    )
