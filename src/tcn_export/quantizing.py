"""From float32 to int8: calibrate on training windows, write Q/DQ in the dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tcn_export.export_data import ExportData
from tcn_export.graph import Graph
from tcn_export.options import ExportOptions
from tcn_export.progress import Progress


def quantize_graphs(
    graphs: Mapping[str, Graph], data: ExportData, options: ExportOptions, progress: Progress
) -> tuple[dict[str, Graph], dict[str, Any]]:
    """Quantise equal graphs for the target; the first one is calibrated, for all.

    Args:
        graphs: Float32 graphs, by name of their layout.
        data: Holds the windows that calibrate.
        options: Target and calibration.
        progress: Told of every stage.

    Returns:
        The Q/DQ graphs, and how they were made, for the manifest.
    """
    from tcn_export.quantize.cache import Cache
    from tcn_export.quantize.calibration import calibrate, carry
    from tcn_export.quantize.dialects import DIALECTS
    from tcn_export.quantize.qdq import quantize

    dialect = DIALECTS[options.target]
    assert data.calibration is not None
    chosen = data.calibration.spread(options.calibration_windows)
    first = next(iter(graphs.values()))
    ranges = calibrate(
        first, chosen.x, options.calibration, dialect, progress, Cache.of_user()
    )
    quantized = {}
    with progress.stage("Quantising", len(graphs)) as advance:
        for name, graph in graphs.items():
            quantized[name] = quantize(graph, carry(ranges, graph), dialect)
            advance()
    how = {
        **dialect.to_json(),
        "calibration": ranges.method,
        "windows": ranges.windows,
        "data": data.name,
    }
    return quantized, how
