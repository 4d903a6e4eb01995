"""What a network is and what its answers depend on, without exporting it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tcn_export import extras
from tcn_export.errors import UsageError
from tcn_export.measuring import measure_dependence
from tcn_export.options import ExportOptions
from tcn_export.progress import Progress, Silent
from tcn_export.source.reading import read_source


def describe_model(
    path: Path | None, options: ExportOptions | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Read a network and list its properties, in JSON types.

    Args:
        path: As `pipeline.export` takes it; None where ``options.factory`` makes the network.
        options: Of them count those that tell of the network and its window.
        progress: Told of every stage; None tells nobody.

    Raises:
        ExportError: It cannot be read, or its graph cannot be captured.
        MissingExtraError: PyTorch or ONNX is not installed.
    """
    options, progress = options or ExportOptions(), progress or Silent()
    if path is None and options.factory is None:
        raise UsageError(
            "give one thing to inspect: a bundle, MODEL (a checkpoint of tcn-train, .onnx, "
            ".pt2), or --factory MODULE:NAME with --input-shape CHANNELS,LENGTH."
        )
    extras.require("export", "Inspecting a network")
    from tcn_export.capture import capture

    with progress.stage(f"Reading {path or options.factory}"):
        source = read_source(path, options.told)
    length = options.length if isinstance(options.length, int) else source.length
    with progress.stage("Capturing the graph"):
        captured = capture(source, length, options.operator_set)
    with progress.stage("Measuring what the outputs depend on"):
        dependence = measure_dependence(source, captured, options.seed)
    return {
        "file": None if path is None else str(path),
        "kind": source.kind,
        "sha256": source.sha256,
        "architecture": source.architecture,
        "config": dict(source.config),
        "parameters": source.parameters,
        "task": source.task,
        "classes": list(source.classes),
        "inputs": [spec.to_json() for spec in source.signature.inputs],
        "outputs": [spec.to_json() for spec in source.signature.outputs],
        "window_length": length,
        "sample_rate_hz": source.sample_rate_hz,
        **({"notes": "; ".join(source.notes)} if source.notes else {}),
        **dependence.to_json(),
        "training": dict(source.training),
    }
