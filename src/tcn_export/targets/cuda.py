"""ONNX Runtime on an NVIDIA GPU, by its CUDA execution provider."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from tcn_export.errors import BundleError
from tcn_export.graph import Graph
from tcn_export.targets.base import Artifact, Mode, Precision, Runner
from tcn_export.targets.bound import BoundRunner
from tcn_export.targets.model_file import MODEL_FILE, serialize
from tcn_export.targets.providers import CUDA, open_session, require_device
from tcn_export.targets.session import (
    check_self_contained,
    session_options,
)

CUDA_GRAPH = "cuda_graph"
"""The setting of an artifact that has CUDA graphs captured and replayed."""

_PROVIDER_OPTIONS = {
    # [N, C, 1, L] instead of [N, C, L, 1]: up to three times as fast on some GPUs.
    "cudnn_conv1d_pad_to_nc1d": "1",
    # TF32 keeps 10 bits of every factor; no float32 limit holds then.
    "use_tf32": "0",
    # An exhaustive search races kernels against each other: the next process may choose
    # others than those that were judged, and every new batch size waits for it.
    "cudnn_conv_algo_search": "HEURISTIC",
}


def check_available() -> None:
    """Raise `TargetUnavailableError` where there is no CUDA device or no runtime for it."""
    require_device(CUDA)


def build(
    graph: Graph,
    precision: Precision,
    settings: Mapping[str, Any] | None = None,
    mode: Mode = "window",
) -> Artifact:
    """Make the artifact of a finished graph: the same file as for the CPU."""
    return Artifact(
        "cuda",
        precision,
        mode,
        MODEL_FILE,
        serialize(graph),
        graph.signature,
        dict(settings or {}),
    )


def runner(artifact: Artifact, threads: int = 0) -> Runner:
    """Make a runner for an artifact.

    Raises:
        TargetUnavailableError: Its float arithmetic would not run on a GPU.
        BundleError: The runtime does not accept the model.
    """
    model = artifact.files[artifact.model]
    check_self_contained(model)
    capture = _captures(artifact.settings)
    options = _PROVIDER_OPTIONS | ({"enable_cuda_graph": "1"} if capture else {})
    session = open_session(model, CUDA, options, partial(session_options, threads))
    return BoundRunner(session, artifact.signature, "cuda", capture)


def _captures(settings: Mapping[str, Any]) -> bool:
    capture = settings.get(CUDA_GRAPH, False)
    if not isinstance(capture, bool):
        raise BundleError(
            f"the setting `{CUDA_GRAPH}` is {capture!r}; expected true or false. The bundle "
            "was altered; export it again."
        )
    return capture
