"""Streams of networks, made and run in ONNX Runtime, beside the network on whole signals."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch

from tcn_export.capture import capture
from tcn_export.graph import Graph
from tcn_export.parity.oracle import Oracle, one_thread
from tcn_export.parity.tolerance import float32_limit
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.plans import STREAM
from tcn_export.rewrite.streaming import stream_by_concat
from tcn_export.source.base import Source
from tcn_export.source.foreign import load_factory
from tcn_export.streaming import StreamSession
from tcn_export.targets.hops import HopRunner
from tcn_export.timeline.analysis import analyze
from tcn_export.timeline.schedule import Schedule, find_schedule

OPSET = 20


@dataclass(frozen=True)
class Planned:
    """A captured network, and when each of its values is computed."""

    source: Source
    window: Graph
    schedule: Schedule
    stream: Graph

    def session(self, streams: int = 1) -> StreamSession:
        """A stream of it in ONNX Runtime."""
        model = ir.to_proto(self.stream.model).SerializeToString()
        runner = HopRunner(model, self.stream.signature, threads=1)
        return StreamSession(runner, self.stream.signature, "by hand", streams)

    def eager(self, x: np.ndarray) -> np.ndarray:
        """What the network itself answers to whole signals, in float64."""
        double = copy.deepcopy(self.source.module).double()
        with torch.inference_mode():
            return double(torch.from_numpy(x).double()).numpy()

    def limit(self, x: np.ndarray) -> float:
        """How far a float32 artifact may be from that."""
        signature = self.window.signature
        name = signature.outputs[0].name
        with one_thread():
            truth = Oracle(self.source.module, signature).run({signature.inputs[0].name: x})
        largest = float(np.abs(truth.float64[name]).max())
        return float32_limit(truth.eager_error(name), largest)


def plan(
    factory: str,
    arguments: dict,
    channels: int,
    length: int,
    hop: int = 1,
    mean: int | None = None,
    form=stream_by_concat,
) -> Planned:
    """Capture a factory's network at a length, and make a stream of it."""
    source = load_factory(factory, (channels, length), arguments=arguments)
    graph = run_plan(STREAM, capture(source, length, OPSET))
    timeline = analyze(graph.model, {s.name: s.time_axis for s in graph.signature.inputs})
    schedule = find_schedule(graph.model, timeline, hop, mean)
    return Planned(source, graph, schedule, form(graph, timeline, schedule))


def noise(streams: int, channels: int, steps: int, seed: int = 0) -> np.ndarray:
    """Signals that are far from zero, so that a step of padding is no step of signal."""
    rng = np.random.default_rng(seed)
    return (1 + rng.standard_normal((streams, channels, steps))).astype(np.float32)


def split(x: np.ndarray, hop: int, hops: list[int]) -> list[np.ndarray]:
    """A signal in chunks of so many hops each; the rest of it in one."""
    ends = np.minimum(np.cumsum(hops) * hop, x.shape[2])
    return [part for part in np.split(x, np.unique(ends), axis=2) if part.shape[2]]


def run(session: StreamSession, chunks: list[np.ndarray]) -> list[np.ndarray]:
    """Copies of what the first output answers to every chunk."""
    name = session.signature.outputs[0].name
    return [np.array(session.step(np.ascontiguousarray(c))[name]) for c in chunks]
