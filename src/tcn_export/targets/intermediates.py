"""How large every value of a graph becomes, measured in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import onnx_ir as ir
import onnxruntime as ort

from tcn_export.data import Array
from tcn_export.graph import Graph
from tcn_export.targets.base import symbol_sizes
from tcn_export.targets.session import session_options
from tcn_export.targets.states import CarriedStates
from tcn_export.targets.streamed import chunks, count_hops


def largest_values(graph: Graph, feeds: Iterable[Mapping[str, Array]]) -> dict[str, float]:
    """Largest absolute value of every float32 input, output and value in between, by name.

    The graph itself reduces each value to one number, so that a batch takes no more memory
    than a run without measuring. Whole signals go through a stream hop by hop.

    Args:
        graph: The float32 graph.
        feeds: Inputs by name, one batch after the other.
    """
    measured, watched = _with_maxima(graph)
    session = ort.InferenceSession(
        ir.to_proto(measured).SerializeToString(),
        session_options(threads=0),
        providers=["CPUExecutionProvider"],
    )
    largest = dict.fromkeys(watched, 0.0)
    names, states = list(watched.values()), CarriedStates(graph.signature.states)
    carried = [pair.output for pair in graph.signature.states]
    for feed in _calls(graph, feeds, states):
        outputs = session.run([*names, *carried], feed)
        maxima = outputs[: len(names)]
        states.carry(dict(zip(carried, outputs[len(names) :], strict=True)))
        for name, value in zip(watched, maxima, strict=True):
            # of NaN and a number max() may return either; NaN counts as beyond every limit
            largest[name] = max(
                largest[name], float("inf") if value != value else float(value)
            )
    return largest


def _calls(
    graph: Graph, feeds: Iterable[Mapping[str, Array]], states: CarriedStates
) -> Iterator[dict[str, Array]]:
    """What the graph takes in each call: the feeds, or the hops of each with the states.

    Args:
        graph: Of a window, or of one hop.
        feeds: Windows, or whole signals.
        states: Given what each call leaves before the next one is asked for.
    """
    if not graph.signature.states:
        yield from map(dict, feeds)
        return
    for feed in feeds:
        states.reset()
        for hop in range(count_hops(graph.signature, feed)):
            chunk = chunks(graph.signature, feed, hop)
            yield {**chunk, **states.inputs(symbol_sizes(graph.signature, chunk))}


def _with_maxima(graph: Graph) -> tuple[ir.Model, dict[str, str]]:
    """The graph with one number per value as its outputs, and the names of those."""
    model = graph.model.clone()
    values = [value for value in model.graph.inputs if not value.is_initializer()]
    values += [value for node in model.graph for value in node.outputs]
    kept = {pair.output for pair in graph.signature.states}
    states = [value for value in model.graph.outputs if value.name in kept]
    model.graph.outputs.clear()
    watched = {}
    for value in values:
        if value.dtype != ir.DataType.FLOAT or not value.name:
            continue
        size = ir.node("Abs", [value], name=f"{value.name}.size")
        most = ir.node("ReduceMax", [size.outputs[0]], {"keepdims": 0})
        most.name = most.outputs[0].name = f"{value.name}.largest"
        size.outputs[0].name = size.name
        most.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        most.outputs[0].shape = ir.Shape([])
        model.graph.extend([size, most])
        model.graph.outputs.append(most.outputs[0])
        watched[value.name] = most.name
    model.graph.outputs.extend(states)
    return model, watched
