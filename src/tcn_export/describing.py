"""What an export says about itself: its manifest, from everything that had a part in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tcn_export import machine
from tcn_export.bench import Latency
from tcn_export.export_data import ExportData
from tcn_export.graph import Graph
from tcn_export.manifest import Manifest
from tcn_export.options import ExportOptions
from tcn_export.parity.rows import ParityReport
from tcn_export.targets.base import Artifact

if TYPE_CHECKING:
    from tcn_export.source.base import Source


def describe(
    source: Source,
    artifact: Artifact,
    graph: Graph,
    data: ExportData | None,
    options: ExportOptions,
    report: ParityReport,
    latency: Latency | None,
    **built: Any,
) -> Manifest:
    """Put a manifest together.

    Args:
        source: The network.
        artifact: What was made of it.
        graph: The graph in the artifact.
        data: What it was judged on; None for the stress set alone.
        options: What was asked.
        report: The verdict.
        latency: Of the artifact; None where it could not run.
        built: ``quantization``, ``engine``, ``builder`` and what the outputs depend on, as the
            manifest has them.
    """
    return Manifest(
        name=options.name or source.name,
        target=artifact.target,
        precision=artifact.precision,
        mode=artifact.mode,
        model=artifact.model,
        settings=artifact.settings,
        task=source.task,
        signature=artifact.signature,
        classes=source.classes,
        sample_rate_hz=source.sample_rate_hz,
        source=_origin(source),
        tools=machine.tools(),
        host=machine.host(),
        rewrites=tuple(step.to_json() for step in graph.history),
        parity={
            **report.to_json(),
            "max_drop": options.max_drop,
            "data": None if data is None else _judged_on(data),
        },
        latency=None if latency is None else latency.to_json(),
        verified=report.verified,
        waived=report.waived,
        **built,
    )


def _origin(source: Source) -> Mapping[str, Any]:
    return {
        "file": "".join(c if c.isprintable() else "?" for c in Path(source.origin).name),
        "kind": source.kind,
        "sha256": source.sha256,
        "architecture": source.architecture,
        "parameters": source.parameters,
        **({} if source.kind == "checkpoint" else {"arguments": dict(source.config)}),
        "notes": list(source.notes),
    }


def _judged_on(data: ExportData) -> Mapping[str, Any]:
    return {
        "name": data.name,
        "sha256": data.parity.digest(),
        "windows": len(data.parity),
        "labelled": data.parity.y is not None,
    }
