"""What a checkpoint is, without exporting it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tcn_export import extras


def describe_model(path: Path) -> dict[str, Any]:
    """Read a checkpoint and list its properties, in JSON types.

    Raises:
        CheckpointError: It cannot be read.
        MissingExtraError: PyTorch is not installed.
    """
    extras.require("export", "Reading a checkpoint")
    from tcn_export.source.checkpoint import load_source

    source = load_source(path)
    return {
        "file": str(path),
        "kind": source.kind,
        "sha256": source.sha256,
        "architecture": source.architecture,
        "config": dict(source.config),
        "parameters": source.parameters,
        "task": source.task,
        "classes": list(source.classes),
        "inputs": [spec.to_json() for spec in source.signature.inputs],
        "outputs": [spec.to_json() for spec in source.signature.outputs],
        "window_length": source.length,
        "sample_rate_hz": source.sample_rate_hz,
        "training": dict(source.training),
    }
