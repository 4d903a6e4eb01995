"""What the pipeline and a bundle ask of the target ``trt``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tcn_export import extras
from tcn_export.graph import Graph
from tcn_export.targets.base import Artifact, Mode, Precision, Runner
from tcn_export.targets.model_file import MODEL_FILE, serialize
from tcn_export.targets.tensorrt.runner import open_engine


def check_available() -> None:
    """Pass on every machine: a device kit needs no device, only ONNX Runtime to be judged."""
    extras.require("cpu", "Judging a graph for TensorRT on the CPU")


def build(
    graph: Graph,
    precision: Precision,
    settings: Mapping[str, Any] | None = None,
    mode: Mode = "window",
) -> Artifact:
    """Make the artifact of a finished graph; `deployment.deploy` brings it further."""
    return Artifact(
        "trt",
        precision,
        mode,
        MODEL_FILE,
        serialize(graph),
        graph.signature,
        dict(settings or {}),
    )


def runner(artifact: Artifact, threads: int = 0) -> Runner:
    """Load the engine of an artifact; see `open_engine`. Threads are the device's own."""
    del threads
    return open_engine(artifact)
