"""From float32 to int8: calibrate on training windows, write Q/DQ in the dialect."""

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
    from tcn_export.quantize.calibration import Ranges

CORRECTION_WINDOWS = 128
"""Means of a channel over many steps need few windows."""


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
    from tcn_export.quantize.layers import layers

    dialect = options.dialect
    first = next(iter(graphs.values()))
    ranges = find_ranges(first, data, options, recipe.calibration, progress)
    written = {}
    with progress.stage("Quantising", len(graphs)) as advance:
        for name, graph in graphs.items():
            written[name] = write(graph, carry(ranges, graph), data, options, recipe)
            advance()
    how = {
        **dialect.to_json(),
        **recipe.to_json(),
        "windows": ranges.windows,
        "data": data.name,
        "budget": None,
        "in_float": [
            layer.name for layer in layers(first, dialect) if layer.node in recipe.in_float
        ],
    }
    return written, how


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
