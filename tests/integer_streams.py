"""Streams of small networks, in float32 and in integers, and what they answer."""

from __future__ import annotations

from functools import cache

from odd_streams import CHANNELS
from tcn_export.capture import capture
from tcn_export.graph import Graph
from tcn_export.options import ExportOptions
from tcn_export.progress import Silent
from tcn_export.quantize.calibration import calibrate
from tcn_export.quantize.feeding import Streams
from tcn_export.quantize.layers import unquantizable
from tcn_export.quantize.qdq import quantize
from tcn_export.quantize.stream_ranges import sources, stays_float, tied
from tcn_export.quantize.stream_states import keep_integers
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.plans import ONNX
from tcn_export.rewrite.streaming import stream_by_concat
from tcn_export.source.reading import read_source
from tcn_export.targets.onnxruntime import OnnxRuntimeRunner, build
from tcn_export.targets.streamed import StreamedRunner
from tcn_export.timeline.analysis import analyze
from tcn_export.timeline.schedule import find_schedule

SILENT = Silent()


def whole_graph(source, steps, opset=20) -> Graph:
    """The float32 graph of a window of so many steps."""
    return run_plan(ONNX, capture(source, steps, opset))


@cache
def odd_graph(kind, steps=48, channels=CHANNELS, opset=20) -> Graph:
    """The same of one of `odd_streams`."""
    options = ExportOptions(
        factory="odd_streams:made", factory_args={"kind": kind}, input_shape=(channels, steps)
    )
    return whole_graph(read_source(None, options.told), steps, opset)


def stream_of(graph, hop, mean=None) -> Graph:
    """The float32 graph of a hop."""
    timeline = analyze(graph.model, {s.name: s.time_axis for s in graph.signature.inputs})
    return stream_by_concat(graph, timeline, find_schedule(graph.model, timeline, hop, mean))


def ranges_of(stream, signals, dialect, method="minmax"):
    """What calibration with carried states finds, tied."""
    without = stays_float(stream)
    feeding = Streams(stream, signals)
    same = sources(stream)
    return tied(
        calibrate(stream, feeding, method, dialect, SILENT, without=without, sources=same),
        stream,
    )


def in_integers(stream, ranges, dialect, in_float=frozenset()) -> Graph:
    """The Q/DQ graph of a hop, with integer states."""
    in_float = in_float | stays_float(stream) | unquantizable(stream)
    return keep_integers(quantize(stream, ranges, dialect, in_float))


def answers(graph, signals):
    """What a graph answers to whole signals: at once, or hop by hop; its first output."""
    artifact = build(graph, "int8")
    runner = OnnxRuntimeRunner(artifact.files[artifact.model], artifact.signature)
    signature = graph.signature
    if signature.states or signature.inputs[0].shape[2] != signals.shape[2]:
        runner = StreamedRunner(runner, signature)
    found = runner.run({graph.signature.inputs[0].name: signals})
    return found[graph.signature.outputs[0].name]
