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


def halve(
    graph: Graph,
    source: Source,
    data: ExportData | None,
    options: ExportOptions,
    progress: Progress,
) -> tuple[Graph, Graph]:
    """Convert a graph to float16, but for what its own signals drive beyond the range.

    Args:
        graph: The float32 graph.
        source: Gives the units of the stress set.
        data: The windows that are judged on; None for the stress set alone.
        options: Seed of the stress set.
        progress: Told of the stage.

    Returns:
        The float16 graph, and the same with its roundings written out: see
        `rewrite.explicit_rounding`.
    """
    from tcn_export.rewrite.base import run
    from tcn_export.rewrite.explicit_rounding import ExplicitRounding
    from tcn_export.rewrite.half_precision import HalfPrecision
    from tcn_export.targets.intermediates import largest_values
    from tcn_export.targets.rounding import check_roundings_are_kept

    with progress.stage("Converting to float16"):
        check_roundings_are_kept()
        largest = largest_values(graph, _signals(graph, source, data, options.seed))
        half = run(HalfPrecision(largest), graph)
        return half, run(ExplicitRounding(), half)


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
