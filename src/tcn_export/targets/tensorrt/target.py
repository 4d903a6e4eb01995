"""What the pipeline and a bundle ask of the target ``trt``."""

from __future__ import annotations

from tcn_export.graph import Graph
from tcn_export.targets.base import Artifact, Precision, Runner
from tcn_export.targets.tensorrt.runner import MODEL_FILE, open_engine


def check_available() -> None:
    """Pass everywhere: a device kit can be made on any machine."""


def build(graph: Graph, precision: Precision) -> Artifact:
    """Make the artifact of a finished graph; `deployment.deploy` brings it further."""
    import onnx_ir as ir  # exporting only: running a bundle must not need it

    model = ir.to_proto(graph.model).SerializeToString()
    return Artifact(
        "trt", precision, "window", MODEL_FILE, {MODEL_FILE: model}, graph.signature
    )


def runner(artifact: Artifact, threads: int = 0) -> Runner:
    """Load the engine of an artifact; see `open_engine`. Threads are the device's own."""
    del threads
    return open_engine(artifact)
