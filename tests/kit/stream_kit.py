"""A device kit of a stream, and runners of its hops on the host."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from targets.streams import Case, eager, signals, streamed
from targets.tensorrt.host_device import HostMemory, SessionEngine, open_on_host
from tcn_export.kit.amalgamate import SCRIPT_FILE, assemble
from tcn_export.kit.proof import Kit
from tcn_export.parity.golden import GOLDEN_FILE, Feed, Golden, Reference, golden_to_bytes
from tcn_export.targets.model_file import MODEL_FILE, serialize
from tcn_export.targets.tensorrt.engine import EngineRunner, largest_batch
from tcn_export.targets.tensorrt.settings import TensorRTSettings

RATE_HZ = 50.0


def write_stream_kit(folder: Path, case: Case, batch: int = 4) -> Kit:
    """The files that ``build_engine.py`` reads, of a network streamed as ``case`` says."""
    graph, module = streamed(case)
    (output,) = graph.signature.outputs
    feeds = (
        Feed("single", "stress", {"signal": signals(case, 1)}),
        Feed("real", "real", {"signal": signals(case, 3, seed=1)}),
    )
    references = {}
    for feed in feeds:
        x = feed.inputs["signal"]
        with torch.inference_mode():
            single = module(torch.from_numpy(x)).numpy()
        double = eager(module, x, output.delay)
        single = single[:, :, : double.shape[2]] if double.ndim == 3 else single
        references[feed.name] = Reference({output.name: double}, {output.name: single})
    golden = Golden(feeds, references, ("a", "b", "c", "d"))
    files = {GOLDEN_FILE: golden_to_bytes(golden), **serialize(graph)}
    manifest = {
        "schema": 1,
        "precision": "float32",
        "mode": "stream",
        "hop": case.hop,
        "task": "classification",
        "waived": [],
        "sample_rate_hz": RATE_HZ,
        "receptive_field": 15,
        "settings": TensorRTSettings(batch=batch).to_json(graph.signature, (1, 1, 1)),
        "inputs": [spec.to_json() for spec in graph.signature.inputs],
        "outputs": [spec.to_json() for spec in graph.signature.outputs],
        "states": [state.to_json() for state in graph.signature.states],
        "parity": {"verdict": "pass", "rows": []},
        "files": {name: hashlib.sha256(raw).hexdigest() for name, raw in files.items()},
    }
    folder.mkdir(parents=True)
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / SCRIPT_FILE).write_text(assemble())
    return Kit(str(folder))


def on_the_host(kit: Kit, cuda_graph: bool = False, memory=None) -> EngineRunner:
    """The runner that the kit gives an engine, with ONNX Runtime for the engine."""
    memory = memory or HostMemory()
    engine = SessionEngine((Path(kit.folder) / MODEL_FILE).read_bytes(), memory)
    largest = largest_batch(kit.settings["profiles"], kit.states)
    return open_on_host(engine, memory, kit.states, cuda_graph, largest)
