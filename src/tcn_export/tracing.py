"""What every layer of an artifact gives, next to float64, while it is exported."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tcn_export.data import Array
from tcn_export.errors import BundleError, UnsupportedModelError
from tcn_export.judging import Stages
from tcn_export.parity.bisect import LayerRow, judge_layers
from tcn_export.parity.golden import Feed, Golden
from tcn_export.parity.layers import LAYERS_FILE, Recorded, Trace, layers_to_bytes
from tcn_export.parity.rows import ORACLE
from tcn_export.parity.sketch import Seen, look_at
from tcn_export.progress import Progress
from tcn_export.targets.base import Artifact

WINDOWS = 4
"""Windows that are traced; fewer where they are long."""
_STEPS = 1024
"""Of all windows together, beyond which fewer windows are traced."""


@dataclass(frozen=True, slots=True)
class Traced:
    """What is kept for a later search, as files, and how the layers stand now.

    No file and no rows are there where the graph is too large for the evaluator, or cannot be
    run in pieces.
    """

    files: Mapping[str, bytes]
    rows: tuple[LayerRow, ...] | None

    @property
    def entries(self) -> tuple[Mapping[str, Any], ...] | None:
        """The rows as the manifest has them."""
        return None if self.rows is None else tuple(row.to_json() for row in self.rows)


def trace_layers(
    artifact: Artifact, stages: Stages, golden: Golden, progress: Progress
) -> Traced:
    """Run the float32 graph in float64 and the artifact in pieces, value by value.

    One golden feed is run, windows of the user where there are any. That takes less than
    judging did, whose feeds are ten and more; of values that nothing reads any more only
    sketches stay.

    Args:
        artifact: What was made; for another device its graph is run on the CPU.
        stages: Holds the float32 graph that it was made of.
        golden: Gives the signals.
        progress: Told of every piece.
    """
    from tcn_export.targets.segments import read_graph, run_units

    if artifact.mode == "stream":  # its values are those of one hop
        return Traced({}, None)
    feed = _chosen(golden)
    x, windows = _some(feed)
    before = stages.before or artifact
    model = artifact.files[artifact.model]
    graph, own = read_graph(model), Trace()
    with progress.stage("Tracing the layers", len(graph.units)) as advance:
        try:
            reference, noise, oracle = _reference(before.files[before.model], x)
            run_units(graph, dict.fromkeys(feed.inputs, x), own.add, advance)
        except (UnsupportedModelError, BundleError):
            return Traced({}, None)  # the bundle is as good without; --locate says so
    digest = hashlib.sha256(model).hexdigest()
    recorded = Recorded(feed.name, feed.kind, windows, oracle, digest, reference, noise, own)
    rows = judge_layers(recorded, own, artifact.precision)
    return Traced({LAYERS_FILE: layers_to_bytes(recorded)}, rows)


def _chosen(golden: Golden) -> Feed:
    """The windows of the user, or the noise of the stress set."""
    told = [feed for feed in golden.feeds if feed.name == feed.kind]
    return told[0] if told else next(f for f in golden.feeds if f.name == "normal")


def _some(feed: Feed) -> tuple[Array, int]:
    (x,) = feed.inputs.values()
    windows = max(1, min(WINDOWS, len(x), _STEPS // x.shape[-1]))
    return x[:windows], windows


def _reference(model: bytes, x: Array) -> tuple[dict[str, Seen], dict[str, float], str]:
    """Every value in float64, what float32 errs there, and what the first really is."""
    from tcn_export.source.onnx_double import OnlySingle
    from tcn_export.source.onnx_values import watch_values

    reference: dict[str, Seen] = {}
    noise: dict[str, float] = {}

    def keep(name: str, value: Array) -> None:
        reference[name], noise[name] = look_at(value), 0.0

    def compare(name: str, value: Array) -> None:
        if name in reference:
            noise[name] = look_at(value).noise(reference[name])

    try:
        watch_values(model, x.astype(np.float64), keep)
    except OnlySingle as reason:
        watch_values(model, x, keep)
        return reference, noise, f"float32: {reason}"
    watch_values(model, x, compare)
    return reference, noise, ORACLE
