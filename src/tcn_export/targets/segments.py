"""Run a model unit by unit in ONNX Runtime on the CPU, holding what is still needed alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError

from tcn_export.data import Array
from tcn_export.errors import BundleError
from tcn_export.progress import Advance, ignore
from tcn_export.targets.session import (
    RUNTIME_ERRORS,
    cannot,
    check_self_contained,
    session_options,
)
from tcn_export.targets.units import CutGraph, Made, Unit, cut_out


def read_graph(model: bytes) -> CutGraph:
    """The units of a model.

    Raises:
        BundleError: It is no ONNX model, or has weights outside itself.
    """
    check_self_contained(model)
    try:
        return CutGraph(onnx.load_from_string(model))
    except DecodeError as error:
        raise BundleError(f"the model is no ONNX file: {error}. Export it again.") from error


def run_units(
    graph: CutGraph,
    feeds: Mapping[str, Array],
    seen: Callable[[Made, Array], None],
    advance: Advance = ignore,
    instead: Callable[[Unit, Mapping[str, Array]], list[Array] | None] | None = None,
) -> None:
    """Run units one after the other, each on what those before it gave.

    Args:
        graph: Of `read_graph`.
        feeds: Inputs of the graph, by name.
        seen: Told of every float value, in the order of the graph. What is kept in integers is
            told in the units that it stands for.
        advance: Told of every unit.
        instead: Computes units in place of the runtime; None from it leaves one to that.

    Raises:
        BundleError: The runtime refuses a unit.
    """
    last: dict[str, int] = {}
    for i, unit in enumerate(graph.units):
        last.update(dict.fromkeys((*unit.inputs, *unit.outputs), i))
    values = dict(feeds)
    for i, unit in enumerate(graph.units):
        for name in unit.inputs:
            if name not in values:
                raise BundleError(
                    f"`{unit.main.name}` reads `{name}`, which no node before it gives. Sort "
                    "the nodes of the model in the order in which they run."
                )
        inputs = {name: values[name] for name in unit.inputs}
        given = None if instead is None else instead(unit, inputs)
        if given is None:
            given = _run(cut_out(graph, unit, inputs).SerializeToString(), inputs)
        for (name, told), value in zip(unit.outputs.items(), given, strict=True):
            values[name] = value
            numbers = value if told is None else graph.dequantized(name, value)
            if told is not None and numbers.dtype.kind == "f":
                seen(graph.made(unit, told, value.dtype.kind != "f"), numbers)
        for name in (*unit.inputs, *unit.outputs):
            if last[name] == i:
                values.pop(name, None)
        advance()


def run_whole(
    model: bytes, feeds: Mapping[str, Array], is_optimized: bool
) -> dict[str, Array]:
    """All outputs of a whole model, by name; with the runtime's fusions, or without.

    Raises:
        BundleError: The runtime refuses the model.
    """
    check_self_contained(model)
    names = [value.name for value in onnx.load_from_string(model).graph.output]
    return dict(zip(names, _run(model, feeds, is_optimized), strict=True))


def _run(model: bytes, feeds: Mapping[str, Array], is_optimized: bool = True) -> list[Array]:
    options = session_options(threads=1)
    if not is_optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        values: list[Array] = session.run(None, dict(feeds))
    except RUNTIME_ERRORS as error:
        raise cannot("run", error) from error
    return values
