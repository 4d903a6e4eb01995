"""From a float32 graph to float16: measure what is too large, convert, write roundings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tcn_export.data import Array, batches
from tcn_export.export_data import ExportData, golden_feeds
from tcn_export.graph import Graph
from tcn_export.options import ExportOptions
from tcn_export.progress import Progress

if TYPE_CHECKING:
    from tcn_export.source.base import Source


def halve_graphs(
    graphs: Mapping[str, Graph],
    source: Source,
    data: ExportData | None,
    options: ExportOptions,
    progress: Progress,
) -> tuple[dict[str, Graph], dict[str, Graph]]:
    """Convert equal graphs to float16, but for what their signals drive beyond the range.

    Args:
        graphs: Float32 graphs, by name of their layout; the first one is measured, for all.
        source: Gives the units of the stress set.
        data: The windows that are judged on; None for the stress set alone.
        options: Seed of the stress set.
        progress: Told of the stage.

    Returns:
        The float16 graphs, and the same with their roundings written out: see
        `rewrite.explicit_rounding`.
    """
    from tcn_export.rewrite.base import run
    from tcn_export.rewrite.explicit_rounding import ExplicitRounding
    from tcn_export.rewrite.half_precision import HalfPrecision
    from tcn_export.rewrite.handed_on import carried
    from tcn_export.targets.intermediates import largest_values
    from tcn_export.targets.rounding import check_roundings_are_kept

    with progress.stage("Converting to float16"):
        check_roundings_are_kept()
        first = next(iter(graphs.values()))
        largest = largest_values(first, _signals(first, source, data, options.seed))
        half = {
            name: run(HalfPrecision(carried(largest, graph.model)), graph)
            for name, graph in graphs.items()
        }
        return half, {name: run(ExplicitRounding(), graph) for name, graph in half.items()}


def _signals(
    graph: Graph, source: Source, data: ExportData | None, seed: int
) -> Iterator[Mapping[str, Array]]:
    """Everything that the artifact is going to be judged on."""
    for feed in golden_feeds(source, graph.signature, data, seed):
        yield feed.inputs
    if data is not None:
        name = graph.signature.inputs[0].name
        for batch in batches(data.parity.x):
            yield {name: batch}
