"""Bundles made by hand, where no export makes one yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tcn_export import machine
from tcn_export.bundle import Bundle, write_bundle
from tcn_export.graph import Graph
from tcn_export.manifest import Manifest
from tcn_export.parity.golden import GOLDEN_FILE, Feed, Golden, Reference, golden_to_bytes
from tcn_export.targets.onnxruntime import build


def write_by_hand(path: Path, graph: Graph, batch: int = 1) -> Bundle:
    """A float32 bundle of a graph with symbolic batch; its golden data hold zeros."""
    artifact = build(graph, "float32")

    def zeros(specs, dtype):
        shapes = {s.name: [n if isinstance(n, int) else batch for n in s.shape] for s in specs}
        return {name: np.zeros(shape, dtype) for name, shape in shapes.items()}

    outputs = graph.signature.outputs
    feed = Feed("single", "stress", zeros(graph.signature.inputs, np.float32))
    reference = Reference(zeros(outputs, np.float64), zeros(outputs, np.float32))
    golden = Golden((feed,), {"single": reference}, ())
    manifest = Manifest(
        name=path.name,
        target="onnx",
        precision="float32",
        mode="window",
        model=artifact.model,
        task="regression",
        signature=artifact.signature,
        classes=(),
        sample_rate_hz=None,
        source={"file": "by hand", "kind": "factory", "sha256": ""},
        tools=machine.tools(),
        host=machine.host(),
        rewrites=(),
        quantization=None,
        parity={"verdict": "pass", "rows": [], "max_drop": 1.0, "data": None},
        latency=None,
        verified=True,
        waived=(),
    )
    files = {**artifact.files, GOLDEN_FILE: golden_to_bytes(golden)}
    return write_bundle(path, manifest, files, overwrite=False)
