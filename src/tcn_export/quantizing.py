"""From a float32 graph to int8: calibrate on training windows, write Q/DQ in the dialect."""

from __future__ import annotations

from typing import Any

from tcn_export.export_data import ExportData
from tcn_export.graph import Graph
from tcn_export.options import ExportOptions
from tcn_export.progress import Progress


def quantize_graph(
    graph: Graph, data: ExportData, options: ExportOptions, progress: Progress
) -> tuple[Graph, dict[str, Any]]:
    """Quantise a graph for the target.

    Args:
        graph: The float32 graph.
        data: Holds the windows that calibrate.
        options: Target and calibration.
        progress: Told of every stage.

    Returns:
        The Q/DQ graph, and how it was made, for the manifest.
    """
    from tcn_export.quantize.calibration import calibrate
    from tcn_export.quantize.dialects import DIALECTS
    from tcn_export.quantize.qdq import quantize

    dialect = DIALECTS[options.target]
    assert data.calibration is not None
    chosen = data.calibration.spread(options.calibration_windows)
    ranges = calibrate(graph, chosen.x, options.calibration, dialect, progress)
    with progress.stage("Quantising"):
        quantized = quantize(graph, ranges, dialect)
    how = {
        **dialect.to_json(),
        "calibration": ranges.method,
        "windows": ranges.windows,
        "data": data.name,
    }
    return quantized, how
