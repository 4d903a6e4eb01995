"""The ONNX file of an artifact, whichever runtime reads it."""

from __future__ import annotations

from tcn_export.graph import Graph

MODEL_FILE = "model.onnx"


def serialize(graph: Graph) -> dict[str, bytes]:
    """The file of a graph, by name."""
    import onnx_ir as ir  # exporting only: running a bundle must not need it

    return {MODEL_FILE: ir.to_proto(graph.model).SerializeToString()}
