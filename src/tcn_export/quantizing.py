"""From float32 to int8: calibrate on training signals, write Q/DQ in the dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tcn_export.export_data import ExportData
from tcn_export.graph import Graph
from tcn_export.options import ExportOptions
from tcn_export.progress import Progress
from tcn_export.quantize.dialects import Method
from tcn_export.quantize.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tcn_export.quantize.calibration import Ranges

CORRECTION_WINDOWS = 128
"""Means of a channel over many steps need few windows."""
CORRECTION_STEPS = 8192
"""And few steps of a stream: minutes of most signals."""


def equalized(graph: Graph) -> Graph:
    """The same function, with channels of equal range; before it is laid out."""
    from tcn_export.quantize.equalization import CrossLayerEqualization
    from tcn_export.rewrite.base import run

    return run(CrossLayerEqualization(), graph)


def quantize_graphs(
    graphs: Mapping[str, Graph],
    data: ExportData,
    options: ExportOptions,
    recipe: Recipe,
    progress: Progress,
) -> tuple[dict[str, Graph], dict[str, Any]]:
    """Quantise equal graphs for the target; the first one is calibrated, for all.

    Args:
        graphs: Float32 graphs, by name of their layout; equalised, where the recipe says so.
        data: Holds the windows that calibrate.
        options: Target, and how many windows.
        recipe: How.
        progress: Told of every stage.

    Returns:
        The Q/DQ graphs, and how they were made, for the manifest.
    """
    from tcn_export.quantize.calibration import carry

    first = next(iter(graphs.values()))
    ranges = find_ranges(first, data, options, recipe.calibration, progress)
    written = {}
    with progress.stage("Quantising", len(graphs)) as advance:
        for name, graph in graphs.items():
            written[name] = write(graph, carry(ranges, graph), data, options, recipe)
            advance()
    return written, _how(first, ranges, options, recipe, data.name)


def quantize_stream(
    graphs: Mapping[str, Graph],
    signals: NDArray[np.float32],
    options: ExportOptions,
    recipe: Recipe,
    progress: Progress,
    data: str,
    calibrated: Graph | None = None,
) -> tuple[dict[str, Graph], dict[str, Any]]:
    """Quantise equal graphs of a hop; the stream is calibrated with its states carried.

    Args:
        graphs: Float32 graphs of a hop, by name of their form; equalised, where the recipe
            says so. Their convolutions read what `stream_by_concat` keeps.
        signals: Of the training, (streams, channels, steps), as long as there are.
        options: Target.
        recipe: How.
        progress: Told of every stage.
        data: Name of the signals, for the manifest.
        calibrated: The same stream with a longer hop, whose fewer runs take less time; the
            ranges are the same. None calibrates the first of ``graphs``.

    Returns:
        The Q/DQ graphs, their states integers as far as that goes, and how they were made, for
        the manifest.

    Raises:
        DataError: The signals are shorter than a hop, or drive a value beyond all numbers.
    """
    first = next(iter(graphs.values()))
    ranges = stream_ranges(calibrated or first, signals, options, recipe.calibration, progress)
    written = {}
    with progress.stage("Quantising", len(graphs)) as advance:
        for name, graph in graphs.items():
            written[name] = write_stream(graph, ranges, signals, options, recipe)
            advance()
    how = _how(first, ranges, options, recipe, data)
    how["streams"] = how.pop("windows")
    return written, {**how, "calibrated": "stream"}


def stream_ranges(
    graph: Graph,
    signals: NDArray[np.float32],
    options: ExportOptions,
    method: Method,
    progress: Progress,
) -> Ranges:
    """Calibrate a graph of a hop on long signals, or remember how it was."""
    from tcn_export.quantize.cache import Cache
    from tcn_export.quantize.calibration import calibrate
    from tcn_export.quantize.feeding import Streams
    from tcn_export.quantize.stream_ranges import sources, stays_float, tied

    feeding, without = Streams(graph, signals), stays_float(graph)
    dialect, cache = options.dialect, Cache.of_user()
    found = calibrate(
        graph, feeding, method, dialect, progress, cache, without, sources(graph)
    )
    return tied(found, graph)


def write_stream(
    graph: Graph,
    ranges: Ranges,
    signals: NDArray[np.float32],
    options: ExportOptions,
    recipe: Recipe,
) -> Graph:
    """Write Q/DQ into a graph of a hop, and let its states be integers; see `write`.

    Raises:
        AssertionError: What was written is not of the dialect; see `quantize.lint`.
    """
    from tcn_export.quantize.bias_correction import correct_biases
    from tcn_export.quantize.calibration import carry
    from tcn_export.quantize.feeding import Streams
    from tcn_export.quantize.layers import unquantizable
    from tcn_export.quantize.lint import check_dialect
    from tcn_export.quantize.qdq import quantize
    from tcn_export.quantize.steps_first import turn_states
    from tcn_export.quantize.stream_ranges import stays_float, tied
    from tcn_export.quantize.stream_states import keep_integers

    in_float = recipe.in_float | unquantizable(graph) | stays_float(graph)
    known = tied(carry(ranges, graph), graph)
    made = keep_integers(quantize(graph, known, options.dialect, in_float))
    if options.dialect.isa is not None:
        made = turn_states(made)
    if recipe.correct_bias:
        made = correct_biases(graph, made, signals[..., :CORRECTION_STEPS], Streams)
    check_dialect(made.model, options.dialect, in_float)
    return made


def _how(
    graph: Graph, ranges: Ranges, options: ExportOptions, recipe: Recipe, data: str
) -> dict[str, Any]:
    """How graphs were quantised, for the manifest."""
    from tcn_export.quantize.layers import layers

    return {
        **options.dialect.to_json(),
        **recipe.to_json(),
        "windows": ranges.windows,
        "data": data,
        "budget": None,
        "in_float": [
            layer.name
            for layer in layers(graph, options.dialect)
            if layer.node in recipe.in_float
        ],
    }


def find_ranges(
    graph: Graph, data: ExportData, options: ExportOptions, method: Method, progress: Progress
) -> Ranges:
    """Calibrate a graph on training windows, or remember how it was."""
    from tcn_export.quantize.cache import Cache
    from tcn_export.quantize.calibration import calibrate

    assert data.calibration is not None
    windows = data.calibration.spread(options.calibration_windows).x
    dialect = options.dialect
    return calibrate(graph, windows, method, dialect, progress, Cache.of_user())


def write(
    graph: Graph, ranges: Ranges, data: ExportData, options: ExportOptions, recipe: Recipe
) -> Graph:
    """Write Q/DQ into a calibrated graph, and correct its biases where the recipe says so.

    Raises:
        AssertionError: What was written is not of the dialect; see `quantize.lint`.
    """
    from tcn_export.quantize.bias_correction import correct_biases
    from tcn_export.quantize.layers import unquantizable
    from tcn_export.quantize.lint import check_dialect
    from tcn_export.quantize.qdq import quantize

    in_float = recipe.in_float | unquantizable(graph)
    made = quantize(graph, ranges, options.dialect, in_float)
    if recipe.correct_bias:
        assert data.calibration is not None
        made = correct_biases(graph, made, data.calibration.spread(CORRECTION_WINDOWS).x)
    check_dialect(made.model, options.dialect, in_float)
    return made
