"""What a rewrite is, and how one is run: on a copy, timed, checked, noted."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from tcn_export.graph import Graph, Refusal, Step


class Refused(Exception):  # noqa: N818 - a refusal is an answer, not an error
    """Raised in a rewrite where a candidate turns out not to match; becomes a `Refusal`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of a rewrite did."""

    modified: int
    refusals: tuple[Refusal, ...] = ()


class Rewrite(ABC):
    """A change to a graph that keeps its meaning and its signature.

    ``call`` works in place; `run` is the functional outside. Running twice changes nothing
    more.
    """

    name: ClassVar[str]

    @abstractmethod
    def call(self, model: ir.Model) -> Outcome:
        """Change ``model`` in place; report each near miss with its reason."""


class NodeRewrite(Rewrite):
    """A rewrite that looks at one node at a time."""

    @abstractmethod
    def is_candidate(self, node: ir.Node) -> bool:
        """Whether ``node`` is of the kind that this rewrite removes."""

    @abstractmethod
    def apply(self, node: ir.Node) -> None:
        """Rewrite ``node`` or raise `Refused`, having changed nothing."""

    def call(self, model: ir.Model) -> Outcome:
        """Offer every node once, in the order of the data."""
        modified, refusals = 0, []
        for node in list(model.graph):
            if node.graph is None or not self.is_candidate(node):
                continue
            try:
                self.apply(node)
            except Refused as refusal:
                refusals.append(Refusal(node.name or node.op_type, str(refusal)))
            else:
                modified += 1
        return Outcome(modified, tuple(refusals))


def run(rewrite: Rewrite, graph: Graph) -> Graph:
    """Run one rewrite on a copy of ``graph``.

    The result passed the ONNX checker with full shape inference, and its inputs and outputs
    have the names, dtypes and shapes they had before.
    """
    start = time.perf_counter()
    model = graph.model.clone()
    outcome = rewrite.call(model)
    if outcome.modified:
        common.RemoveUnusedNodesPass()(model)
        model = checked(model)
        _check_interface(rewrite, graph.model, model)
    step = Step(rewrite.name, outcome.modified, outcome.refusals, time.perf_counter() - start)
    return replace(graph, model=model, history=(*graph.history, step))


def run_plan(plan: Iterable[Rewrite], graph: Graph) -> Graph:
    """Run several rewrites in order."""
    for rewrite in plan:
        graph = run(rewrite, graph)
    return graph


def checked(model: ir.Model) -> ir.Model:
    """Check the model and infer its shapes anew; those in between may be stale."""
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))


def _check_interface(rewrite: Rewrite, before: ir.Model, after: ir.Model) -> None:
    def interface(model: ir.Model) -> list[tuple[str | None, str, str]]:
        values = (*model.graph.inputs, *model.graph.outputs)
        return [(v.name, str(v.dtype), str(v.shape)) for v in values]

    if interface(before) != interface(after):
        raise AssertionError(
            f"the rewrite {rewrite.name} changed the graph's interface from "
            f"{interface(before)} to {interface(after)}"
        )


def constant(value: ir.Value | None, what: str) -> NDArray[np.generic]:
    """The array of a constant.

    Raises:
        Refused: The value is computed at run time, or is an input that a caller may replace.
    """
    if value is None or value.const_value is None or value.is_graph_input():
        raise Refused(f"its {what} is not a constant")
    return value.const_value.numpy()


def only_consumer_of(value: ir.Value, node: ir.Node) -> None:
    """Raise `Refused` unless nobody but ``node`` sees ``value``."""
    if value.is_graph_output():
        raise Refused(f"`{value.name}` is also an output of the graph")
    others = [use.node.name for use in value.uses() if use.node is not node]
    if others:
        raise Refused(f"`{value.name}` is also read by `{others[0]}`")


def bypass(node: ir.Node, replacement: ir.Value) -> None:
    """Remove ``node``; whoever read its output reads ``replacement``.

    Where the output was the graph's, ``replacement`` takes its place and its name.
    """
    output = node.outputs[0]
    graph = node.graph
    assert graph is not None
    name, was_output = output.name, output.is_graph_output()
    ir.convenience.replace_all_uses_with(output, replacement, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    if was_output:
        replacement.name = name
        replacement.shape = output.shape


def unused_name(graph: ir.Graph, name: str) -> str:
    """``name``, or ``name_2`` and so on where a node gives a value of that name."""
    taken = {output.name for node in graph for output in node.outputs}
    unique, n = name, 2
    while unique in taken:
        unique, n = f"{name}_{n}", n + 1
    return unique


def add_initializer(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Register a constant under ``name``, or ``name_2`` and so on where that is taken."""
    unique, n = name, 2
    while unique in graph.initializers:
        unique, n = f"{name}_{n}", n + 1
    tensor = ir.tensor(array, name=unique)
    value = ir.Value(
        name=unique,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


def pads_of(conv: ir.Node) -> tuple[int, int]:
    """The explicit pads of a convolution over time: steps in front, steps behind.

    Raises:
        Refused: It is no 1-D convolution, or its pads depend on the input's size.
    """
    weight = conv.inputs[1]
    if weight is None or weight.shape is None or len(weight.shape) != 3:
        raise Refused(f"`{conv.name}` is not a 1-D convolution")
    automatic = conv.attributes.get_string("auto_pad", "NOTSET")
    if automatic not in ("NOTSET", "VALID"):
        raise Refused(f"`{conv.name}` pads automatically ({automatic})")
    front, behind = conv.attributes.get_ints("pads", [0, 0])
    return front, behind


def set_pads(conv: ir.Node, front: int, behind: int) -> None:
    """Replace the pads of a convolution over time."""
    conv.attributes.pop("auto_pad", None)
    conv.attributes["pads"] = ir.AttrInt64s("pads", [front, behind])
