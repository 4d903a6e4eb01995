"""Bundles made by hand, where no export makes one yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tcn_export import machine
from tcn_export.bundle import Bundle, load_bundle, write_bundle
from tcn_export.graph import Graph
from tcn_export.manifest import MANIFEST_FILE, Manifest
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


def fit_hashes(path: Path) -> None:
    """Make the manifest of an altered bundle list the files as they are now."""
    manifest = json.loads((path / MANIFEST_FILE).read_text())
    for name in manifest["files"]:
        raw = (path / name).read_bytes()
        manifest["files"][name] = hashlib.sha256(raw).hexdigest()
    (path / MANIFEST_FILE).write_text(json.dumps(manifest))


def change_one_weight(path: Path, factor: float = 1.01) -> None:
    """Multiply the largest weight of the first convolution in a bundle's model."""
    model = onnx.load_model_from_string((path / "model.onnx").read_bytes())
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    (tensor,) = [t for t in model.graph.initializer if t.name == conv.input[1]]
    weight = onnx.numpy_helper.to_array(tensor).copy()
    weight[np.unravel_index(np.abs(weight).argmax(), weight.shape)] *= factor
    tensor.CopyFrom(onnx.numpy_helper.from_array(weight, tensor.name))
    onnx.save(model, path / "model.onnx")


def write_candidates(
    path: Path,
    models: Mapping[str, bytes],
    choice: str,
    coverage: Mapping[str, Any] | None = None,
) -> Bundle:
    """Give a bundle these candidates, measured on another machine, and no others."""
    bundle, candidates = load_bundle(path), []
    files = {n: raw for n, raw in bundle.files.items() if not n.startswith("layout-")}
    for name, model in models.items():
        file = bundle.manifest.model if name == choice else f"layout-{name}.onnx"
        files[file] = model
        candidates.append({"name": name, "file": file, "median_us": 70.5, "p90_us": 90.5})
        if coverage is not None:
            candidates[-1]["coverage"] = coverage[name]
    layout = {
        "choice": choice,
        "measured_on": {"system": "Linux", "cpu": "a machine far away", "isa": []},
        "threads": 1,
        "candidates": candidates,
    }
    manifest = replace(bundle.manifest, layout=layout)
    return write_bundle(path, manifest, files, overwrite=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def slowed(model: bytes, nodes: int) -> bytes:
    """The same function of the same input, with more nodes in front that change nothing."""
    proto = onnx.load_from_string(model)
    (signal,) = proto.graph.input
    chain = [
        onnx.helper.make_node("Max", [f"wait_{i}"] * 2, [f"wait_{i + 1}"], name=f"wait_{i}")
        for i in range(nodes)
    ]
    chain[0].input[:] = [signal.name] * 2
    for node in proto.graph.node:
        node.input[:] = [chain[-1].output[0] if n == signal.name else n for n in node.input]
    nodes_before = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*chain, *nodes_before])
    return proto.SerializeToString()


def guessing(model: bytes) -> bytes:
    """A model with the same interface that answers at once, and wrongly: the mean, tiled."""
    proto = onnx.load_from_string(model)
    (signal,), (output,) = proto.graph.input, proto.graph.output
    classes = output.type.tensor_type.shape.dim[1].dim_value
    del proto.graph.node[:], proto.graph.initializer[:]
    for name, value in (("axes", [1, 2]), ("tiles", [1, classes]), ("last", [2])):
        array = onnx.numpy_helper.from_array(np.array(value, np.int64), name)
        proto.graph.initializer.append(array)
    proto.graph.node.extend([
        onnx.helper.make_node("ReduceMean", [signal.name, "axes"], ["mean"]),
        onnx.helper.make_node("Squeeze", ["mean", "last"], ["column"]),
        onnx.helper.make_node("Tile", ["column", "tiles"], [output.name]),
    ])
    onnx.checker.check_model(proto)
    return proto.SerializeToString()
