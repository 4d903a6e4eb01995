"""Streams that tests make of networks, and run step by step."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from rewrite.onnx_text import parse
from tcn_export.capture import capture
from tcn_export.graph import BATCH, Graph, Signature, TensorSpec
from tcn_export.parity.oracle import Oracle, one_thread
from tcn_export.parity.tolerance import float32_limit
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.plans import STREAM
from tcn_export.rewrite.streaming import stream_by_concat
from tcn_export.rewrite.streaming_ring import stream_by_ring
from tcn_export.source.base import Source
from tcn_export.targets.session import session_options
from tcn_export.timeline.analysis import analyze
from tcn_export.timeline.schedule import find_schedule

FORMS = {"concat": stream_by_concat, "ring": stream_by_ring}


def window_of(source: Source) -> Graph:
    """The graph of a window, as the pipeline gives it to the forms."""
    return run_plan(STREAM, capture(source, source.length, 20))


def written(text: str, steps: int = 40) -> Graph:
    """A graph of a window, from ONNX text of ``x`` and ``y``, with time on axis 2 of ``x``."""
    graph = parse(text.replace("STEPS", str(steps)))
    return with_signature(graph)


def with_signature(graph: Graph) -> Graph:
    """A graph of ``x``, whose axis 2 is time, and one output, with its signature."""
    (x,), (y,) = graph.model.graph.inputs, graph.model.graph.outputs
    axis = analyze(graph.model, {"x": 2}).tracks[y].axis
    return Graph(graph.model, Signature((_spec(x, 2),), (_spec(y, axis),)))


def _spec(value: ir.Value, time_axis: int | None) -> TensorSpec:
    shape = tuple(n if isinstance(n, int) else BATCH for n in value.shape)
    return TensorSpec(value.name, "float32", shape, time_axis)


def stream(graph: Graph, form: str, hop: int = 1, mean_steps: int | None = None) -> Graph:
    """A form of a stream of a window's graph."""
    timeline = analyze(graph.model, {s.name: s.time_axis for s in graph.signature.inputs})
    return FORMS[form](graph, timeline, find_schedule(graph.model, timeline, hop, mean_steps))


def session_of(graph: Graph) -> ort.InferenceSession:
    model = ir.to_proto(graph.model).SerializeToString()
    return ort.InferenceSession(model, session_options(1))


def zeros(graph: Graph, batch: int) -> dict[str, np.ndarray]:
    """The states before the first step."""
    return {
        pair.input: np.zeros([batch if n == BATCH else n for n in pair.shape], pair.dtype)
        for pair in graph.signature.states
    }


def step_by_step(graph: Graph, x: np.ndarray) -> np.ndarray:
    """All answers to a signal: those from step 0 on, or on a new last axis one of each hop."""
    session, states = session_of(graph), zeros(graph, len(x))
    (spec,), (taken,) = graph.signature.outputs, graph.signature.inputs
    names = [value.name for value in session.get_outputs()]
    answers = []
    for step in range(x.shape[2]):
        given = dict(
            zip(
                names,
                session.run(names, {taken.name: x[:, :, step : step + 1], **states}),
                strict=True,
            )
        )
        states = {pair.input: given[pair.output] for pair in graph.signature.states}
        answers.append(given[spec.name])
    if spec.time_axis is None or spec.shape[spec.time_axis] != 1:
        return np.stack(answers, axis=-1)
    whole = np.concatenate(answers, axis=spec.time_axis)
    return np.take(whole, range(spec.delay, x.shape[2]), axis=spec.time_axis)


def noise(graph: Graph, batch: int, steps: int, seed: int = 0) -> np.ndarray:
    channels = graph.signature.inputs[0].shape[1]
    rng = np.random.default_rng(seed)
    return rng.standard_normal((batch, channels, steps)).astype(np.float32)


def check_against_eager(
    source: Source, graph: Graph, x: np.ndarray, forms: Iterable[str] = FORMS
) -> None:
    """Forms of a stream against the eager network in float64, on a signal of any length."""
    (signal,), (output,) = source.signature.inputs, source.signature.outputs
    with one_thread():
        eager = Oracle(source.module, source.signature).run({signal.name: x})
    truth, own_error = eager.float64[output.name], eager.eager_error(output.name)
    for form in forms:
        found = step_by_step(stream(graph, form), x)
        check_equal(found if truth.ndim == 3 else found[..., -1], truth, own_error)


def check_equal(found: np.ndarray, truth: np.ndarray, eager_error: float) -> None:
    """As the gate holds float32; a stream lacks the last steps of what looks ahead."""
    truth = truth[..., : found.shape[-1]] if truth.ndim == 3 else truth
    assert found.size
    assert found.shape == truth.shape
    limit = float32_limit(eager_error, float(np.abs(truth).max()))
    assert np.abs(found - truth).max() <= limit
