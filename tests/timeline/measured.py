"""Which steps really matter: a model is run with one step of its input changed at a time."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from tcn_export.graph import Graph
from tcn_export.targets.providers import CPU
from tcn_export.targets.session import session_options
from tcn_export.timeline.analysis import Timeline, Track, analyze


def analyzed(graph: Graph, **axes: int) -> tuple[Timeline, Track]:
    """The timeline of a graph, and the track of its only output; ``axes`` as by name."""
    timeline = analyze(graph.model, axes or {"x": 2})
    (output,) = graph.model.graph.outputs
    return timeline, timeline.tracks[output]


def matters(graph: Graph, axis: int = 2, seed: int = 0) -> np.ndarray:
    """Per step of the input, which elements of one window's output it changes.

    The input's first axis is the batch, and symbolic: every change is a window of its own.
    """
    (value,) = (v for v in graph.model.graph.inputs if v.name == "x")
    rng = np.random.default_rng(seed)
    window = rng.uniform(0.5, 1.5, [int(str(n)) for n in value.shape[1:]]).astype(np.float32)
    steps = window.shape[axis - 1]
    batch = np.stack([window] * (steps + 1))
    for step in range(steps):
        moved = np.moveaxis(batch[step + 1], axis - 1, 0)
        moved[step] += rng.uniform(1, 2, moved[step].shape)
    model = ir.to_proto(graph.model).SerializeToString()
    session = ort.InferenceSession(model, session_options(1), providers=[CPU])
    (output,) = session.run(None, {"x": batch})
    return output[1:] != output[:1]


def matters_per_step(graph: Graph, track: Track, axis: int = 2) -> list[set[int]]:
    """The input steps that change each step of an output with a time axis."""
    changed = np.moveaxis(matters(graph, axis), track.axis, 1)
    changed = changed.reshape(*changed.shape[:2], -1).any(axis=2)
    return [set(np.flatnonzero(column).tolist()) for column in changed.T]


def predicted(track: Track, steps: int, length: int) -> list[set[int]]:
    """The same, from the analysis."""
    reach = track.reach
    return [
        {s for o in reach.offsets() if 0 <= (s := reach.stride * t + o) < length}
        for t in range(steps)
    ]
