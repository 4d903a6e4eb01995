"""From a finished graph to what TensorRT runs: settings, profiles, engine or device kit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tcn_export.bench import measure_latency
from tcn_export.errors import ExportError
from tcn_export.export_data import ExportData, window_lengths
from tcn_export.graph import Graph
from tcn_export.kit.amalgamate import SCRIPT_FILE, assemble
from tcn_export.kit.readme import KIT_README, kit_readme
from tcn_export.manifest import Manifest
from tcn_export.options import ExportOptions
from tcn_export.parity.golden import Golden
from tcn_export.targets.base import Artifact
from tcn_export.targets.streamed import chunks

if TYPE_CHECKING:
    from tcn_export.source.base import Source
    from tcn_export.targets.tensorrt.deployment import Deployment


def engine_settings(
    source: Source, graph: Graph, data: ExportData | None, options: ExportOptions
) -> dict[str, Any]:
    """What the artifact keeps of the options, so that its engine can be built anywhere."""
    lengths = window_lengths(source, graph.signature, data)
    return options.trt.to_json(
        graph.signature, lengths, options.cuda_graph, options.operator_set
    )


def engine_latency(artifact: Artifact, golden: Golden) -> dict[str, Any]:
    """Latency of a window or a hop, host to host, with and without a captured CUDA graph."""
    from tcn_export.targets.tensorrt.runner import open_engine

    inputs = golden.single.inputs
    if artifact.mode == "stream":
        inputs = chunks(artifact.signature, inputs, 0)
    plain = measure_latency(open_engine(artifact, cuda_graph=False), inputs, 0)
    told: dict[str, Any] = {"plain": plain.to_json()}
    try:
        captured = measure_latency(open_engine(artifact, cuda_graph=True), inputs, 0)
        told["cuda_graph"] = captured.to_json()
    except ExportError as error:  # not every engine can be captured; the verdict stands
        told["cuda_graph"] = str(error)
    return told


def integer_coverage(graph: Graph, deployment: Deployment) -> dict[str, Any]:
    """How many convolutions compute in integers, and who says so.

    Where NVIDIA's builder was asked, its own account counts; else what the graph asks for.
    """
    names = [node.name or "" for node in graph.model.graph if node.op_type == "Conv"]
    types: Mapping[str, str]
    if deployment.convolutions is not None:
        types, counted_by = deployment.convolutions, "NVIDIA's builder"
    else:
        types = dict.fromkeys(_quantized(graph), "int8")
        counted_by = "the graph; no builder was asked"
    left = [name for name in names if types.get(name) != "int8"]
    return {
        "integer_convolutions": len(names) - len(left),
        "convolutions": len(names),
        "left_in_float": left,
        "counted_by": counted_by,
    }


def kit_files(manifest: Manifest) -> dict[str, bytes]:
    """What makes a bundle a device kit: its script, and the page that says how to use it."""
    return {SCRIPT_FILE: assemble().encode(), KIT_README: kit_readme(manifest)}


def _quantized(graph: Graph) -> list[str]:
    """Convolutions whose input and weights are dequantised from integers."""
    return [
        node.name or ""
        for node in graph.model.graph
        if node.op_type == "Conv"
        and all(
            value is not None
            and (producer := value.producer()) is not None
            and producer.op_type == "DequantizeLinear"
            for value in node.inputs[:2]
        )
    ]
