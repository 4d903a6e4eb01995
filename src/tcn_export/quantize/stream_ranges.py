"""Which values of a stream share one range, and which of its nodes stay in float32.

What only moves numbers gives what it takes: the steps that a hop puts behind its past, the
part of them that somebody reads, the zeros that stand for steps before the first. Were their
ranges chosen one by one, a value would be rounded again at each of them; with one range it is
rounded once, and its steps are the same integers in whatever hop they come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from tcn_export.graph import Graph
from tcn_export.quantize.calibration import Ranges

MOVERS = frozenset({"Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators whose output holds numbers of their first input, and nothing else."""


def tied(ranges: Ranges, graph: Graph) -> Ranges:
    """The same ranges, one for all values of a stream that are the same numbers.

    Args:
        ranges: As they were measured on `sources`.
        graph: The float32 graph of a hop. The ranges of values that it has in common with the
            graph of a window fit that one too.
    """
    by_name = dict(ranges.by_name)
    for name, source in sources(graph).items():
        if source in ranges.by_name:
            by_name[name] = ranges.by_name[source]
    return replace(ranges, by_name=by_name)


def sources(graph: Graph) -> dict[str, str]:
    """Of what computed value a value holds the numbers, by name, where it is not that itself.

    A hop's steps are in the sources once. In what stands behind a past they are again and
    again, the more often the shorter the hop: a histogram of that would depend on the hop.
    """
    found: dict[str, str] = {}
    for taken, given in _same(graph):
        found[given] = found.get(taken, taken)
    return found


def stays_float(graph: Graph) -> frozenset[str]:
    """Names of nodes that keep float32 whatever the dialect quantises.

    Which steps have begun does not depend on the signal. Sums that go on for hours would lose
    in every hop what integers cannot hold. A pool that reads minus infinity where nothing has
    come yet reads what no scale can hold.

    Args:
        graph: The float32 graph of a hop.
    """
    nodes = list(graph.model.graph)
    states = {pair.input: pair.output for pair in graph.signature.states}
    values = graph.model.graph.inputs
    signal = _reached(nodes, [v for v in values if v.name not in states])
    kept = {node for node in nodes if not any(v in signal for v in node.outputs)}
    outputs = {v.name: v for v in graph.model.graph.outputs}
    for past in values:
        if past.name in states:
            behind = _reached(nodes, [past])
            needed = _needed(nodes, outputs[states[past.name]])
            kept |= {n for n in nodes if any(v in behind and v in needed for v in n.outputs)}
    return frozenset(str(node.name) for node in kept | _unbounded(nodes))


def past_of(node: ir.Node, states: Collection[str]) -> bool:
    """Whether a node puts the steps of a hop behind a state."""
    first = node.inputs[0] if node.inputs else None
    return (
        node.op_type == "Concat"
        and len(node.inputs) == 2
        and first is not None
        and first.name in states
    )


def _same(graph: Graph) -> Iterator[tuple[str, str]]:
    """Names of a value that a node takes, and of the one that holds the same numbers."""
    states = {pair.input for pair in graph.signature.states}
    for node in graph.model.graph:
        taken = None
        if node.op_type in MOVERS or node.op_type == "MaxPool":
            taken = node.inputs[0]
        elif past_of(node, states) or (node.op_type == "Where" and _fill(node) is not None):
            taken = node.inputs[1]
        if taken is not None and taken.const_value is None:
            yield str(taken.name), str(node.outputs[0].name)


def _fill(node: ir.Node) -> float | None:
    """What stands for steps that have not begun; None where that is no single number."""
    value = node.inputs[2]
    constant = None if value is None else value.const_value
    return (
        float(constant.numpy().item()) if constant is not None and constant.size == 1 else None
    )


def _reached(nodes: list[ir.Node], values: Iterable[ir.Value]) -> set[ir.Value]:
    """The values that depend on some values, and those themselves."""
    found = set(values)
    for node in nodes:
        if any(value in found for value in node.inputs):
            found.update(node.outputs)
    return found


def _needed(nodes: list[ir.Node], value: ir.Value) -> set[ir.Value]:
    """The values that a value depends on, and that itself."""
    found = {value}
    for node in reversed(nodes):
        if any(output in found for output in node.outputs):
            found.update(taken for taken in node.inputs if taken is not None)
    return found


def _unbounded(nodes: list[ir.Node]) -> set[ir.Node]:
    """Nodes that read infinities which a stream puts in front of the signal."""
    infinite: set[ir.Value | None] = set()
    found = set()
    for node in nodes:
        if node.op_type == "Where":
            fill = _fill(node)
            if fill is not None and not np.isfinite(fill):
                infinite.add(node.outputs[0])
        elif any(value in infinite for value in node.inputs):
            found.add(node)
            if node.op_type in MOVERS:
                infinite.add(node.outputs[0])
    return found
