"""Ranges of the values between layers, measured on training signals in constant memory.

The smallest and the largest number of every value first; for all methods but ``minmax`` then a
histogram between them. What was measured does not depend on the method, and is kept for the
next export of the same graph with the same windows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from tcn_export.graph import Graph
from tcn_export.progress import Progress
from tcn_export.quantize.cache import NOWHERE, Cache, key_of
from tcn_export.quantize.choose_range import CHOOSE
from tcn_export.quantize.dialects import Dialect, Method
from tcn_export.quantize.feeding import Feeding, Signals, Windows
from tcn_export.quantize.histogram import BINS, Histogram, Range
from tcn_export.quantize.watch import Extremes, Watch
from tcn_export.rewrite.handed_on import carried
from tcn_export.structure import NUMBER, Each, Kind

_VERSION = 1
"""Of what the entries of the cache mean."""
_COUNT = Kind("a count", lambda v: isinstance(v, int) and 0 <= v < 2**63)
_EXTREMES = Each([NUMBER])
_HISTOGRAMS = Each({"zeros": _COUNT, "counts": [_COUNT]})


@dataclass(frozen=True, slots=True)
class Ranges:
    """What calibration found.

    Attributes:
        by_name: Lower and upper limit of each value, in its own units, zero between them.
        method: How they were chosen.
        windows: On how many windows, or streams.
    """

    by_name: Mapping[str, Range]
    method: Method
    windows: int


def calibrate(
    graph: Graph,
    signals: Signals | Feeding,
    method: Method,
    dialect: Dialect,
    progress: Progress,
    cache: Cache = NOWHERE,
    without: Collection[str] = (),
    sources: Mapping[str, str] = MappingProxyType({}),
) -> Ranges:
    """Run signals through the float graph and note the ranges.

    Args:
        graph: The float32 graph with one input.
        signals: Training windows, (windows, channels, length), never test windows; any number
            of them. Or signals with how they are run: `feeding.Streams`.
        method: ``minmax`` covers everything seen; ``percentile`` leaves out the outermost
            0.001 %; ``entropy`` chooses by Kullback-Leibler divergence, ``mse`` by the
            expected squared error.
        dialect: Names the operators whose values are quantised, and says whether zero is in
            the middle of each range.
        progress: Told of every window.
        cache: Where measurements are looked up and kept; nowhere, unless told.
        without: Names of nodes whose values need no range.
        sources: Of values that are not measured, the one that is; see `stream_ranges`.

    Raises:
        DataError: The signals drive a value beyond all numbers.
    """
    feeding = Windows(graph, signals) if isinstance(signals, np.ndarray) else signals
    watch = Watch(graph, feeding, dialect.operators, without=without, sources=sources)
    keep = _Keep(cache, graph, feeding.signals, watch.names)
    extremes = _extremes(watch, method, progress, keep)
    if method == "minmax":
        ranges = {
            name: (min(low, 0.0), max(high, 0.0)) for name, (low, high) in extremes.items()
        }
    else:
        counted = _histograms(watch, extremes, progress, keep)
        with progress.stage("Choosing ranges", len(counted)) as advance:
            ranges = {}
            for name, histogram in counted.items():
                ranges[name] = CHOOSE[method](histogram, dialect.symmetric)
                advance()
    return Ranges(ranges, method, len(feeding.signals))


def carry(ranges: Ranges, graph: Graph) -> Ranges:
    """Ranges of one graph for an equal one of another layout; see `rewrite.handed_on`."""
    return replace(ranges, by_name=carried(ranges.by_name, graph.model))


class _Keep:
    """Measurements of one graph on certain signals, in a cache."""

    def __init__(self, cache: Cache, graph: Graph, signals: Signals, names: list[str]) -> None:
        self._cache = cache
        self._names = set(names)
        if cache.folder is not None:
            self._key = key_of(
                ir.to_proto(graph.model).SerializeToString(deterministic=True),
                json.dumps([_VERSION, ort.__version__, BINS, names, signals.shape]).encode(),
                np.ascontiguousarray(signals).data.cast("B"),
            )

    def read(self, kind: str, form: Any, fits: Callable[[Any], bool]) -> Any:
        """What is known of all values; None where that is not in the cache, or not sound."""
        if self._cache.folder is None:
            return None
        entry = self._cache.read(f"{self._key}-{kind}", form)
        if entry is None or set(entry) != self._names:
            return None
        return entry if all(map(fits, entry.values())) else None

    def write(self, kind: str, entry: Any) -> None:
        """Keep what is known of all values."""
        if self._cache.folder is not None:
            self._cache.write(f"{self._key}-{kind}", entry)


def _extremes(watch: Watch, method: Method, progress: Progress, keep: _Keep) -> Extremes:
    with progress.stage(f"Calibrating ({method})", watch.count) as advance:
        known = keep.read(
            "extremes", _EXTREMES, lambda pair: len(pair) == 2 and pair[0] <= pair[1]
        )
        if known is not None:
            advance(watch.count)
            return {name: (float(low), float(high)) for name, (low, high) in known.items()}
        found = watch.extremes(advance)
        keep.write("extremes", found)
        return found


def _histograms(
    watch: Watch, extremes: Extremes, progress: Progress, keep: _Keep
) -> dict[str, Histogram]:
    known = keep.read("histograms", _HISTOGRAMS, lambda entry: len(entry["counts"]) == BINS)
    if known is not None:
        return {
            name: replace(
                Histogram.empty(*extremes[name]),
                counts=np.array(entry["counts"], np.int64),
                zeros=entry["zeros"],
            )
            for name, entry in known.items()
        }
    with progress.stage("Counting values", watch.count * len(watch.groups)) as advance:
        found = watch.histograms(extremes, advance)
    entry = {
        name: {"zeros": histogram.zeros, "counts": histogram.counts.tolist()}
        for name, histogram in found.items()
    }
    keep.write("histograms", entry)
    return found
