"""What an int8 file answers on x86 without VNNI, found out on any machine.

There the sums of products saturate (see `quantize.int16_pairs`). The layers that may saturate
are computed in numpy, once exactly and once with saturation; the runtime computes the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tcn_export.data import Array, Windows
from tcn_export.parity.metrics import answers
from tcn_export.progress import Advance, Progress
from tcn_export.targets.base import Artifact

if TYPE_CHECKING:
    from tcn_export.quantize.integer_layer import IntegerLayer
    from tcn_export.targets.units import CutGraph, Unit

WINDOWS = 256
_STEPS = 2**18
"""Of long windows there are fewer, so that the stage takes seconds."""
_FEWEST = 16
_ADVICE = "use --cpu-isa avx2"


@dataclass
class _Walk:
    """One way through a graph: which layers are computed in numpy, and what happened there."""

    graph: CutGraph
    layers: Mapping[str, IntegerLayer]
    saturates: bool
    shares: dict[str, list[float]] = field(default_factory=dict)

    def instead(self, unit: Unit, inputs: Mapping[str, Array]) -> list[Array] | None:
        """The output of a layer that may saturate."""
        layer = self.layers.get(unit.main.output[0])
        if layer is None:
            return None
        (x,) = inputs.values()
        output, share = layer.run(x, self.saturates)
        name = self.graph.made(unit, unit.main.output[0], False).layer
        self.shares.setdefault(name, []).append(share)
        return [output]


def saturation(
    artifact: Artifact, windows: Windows, classifies: bool, progress: Progress
) -> dict[str, Any]:
    """Simulate an int8 artifact on a processor without VNNI, on windows that judge it.

    Args:
        artifact: Of ONNX Runtime, with 8-bit weights.
        windows: Of the signal, with their labels where there are any.
        classifies: The network answers with classes; other answers are not compared.
        progress: Told of every part.

    Returns:
        ``quantization.saturation`` of the manifest.
    """
    from tcn_export.targets.segments import read_graph

    windows = _some(windows)
    graph = read_graph(artifact.files[artifact.model])
    layers, convolutions = _layers(graph)
    steps = 2 * len(graph.units)
    with progress.stage("Looking for saturation without VNNI", steps) as advance:
        walk = _Walk(graph, layers, saturates=True)
        lossy = _answers(artifact, walk, windows.x, advance) if layers else None
        saturating = {name: float(np.mean(s)) for name, s in walk.shares.items() if any(s)}
        lost, changed = None, None
        if lossy is not None and saturating and classifies:
            exact = _answers(artifact, _Walk(graph, layers, False), windows.x, advance)
            lost, changed = _compare(exact, lossy, windows)
    entry = {
        "isa": "avx2",
        "windows": len(windows),
        "convolutions": convolutions,
        "saturating": [
            {"layer": name, "share": share}
            for name, share in sorted(saturating.items(), key=lambda item: -item[1])
        ],
        "lost_points": lost,
        "changed": changed,
    }
    return {**entry, "advice": _ADVICE if saturating else ""}


def _some(windows: Windows) -> Windows:
    return windows.spread(max(_FEWEST, min(WINDOWS, _STEPS // windows.x.shape[-1])))


def _layers(graph: CutGraph) -> tuple[dict[str, IntegerLayer], int]:
    """Layers that may saturate, by the name of what they give; how many there are in all."""
    from tcn_export.quantize.integer_layer import integer_layer

    found = {}
    for unit in graph.units:
        layer = integer_layer(unit.nodes, unit.main, graph.constants)
        if layer is not None:
            found[str(unit.main.output[0])] = layer
    return {name: layer for name, layer in found.items() if layer.may_saturate}, len(found)


def _answers(artifact: Artifact, walk: _Walk, x: Array, advance: Advance) -> Array:
    """The output that is judged, on all windows at once or in parts."""
    from tcn_export.targets.segments import run_units

    feed, output = artifact.signature.inputs[0].name, artifact.signature.outputs[0].name
    size = max(1, _STEPS // 4 // x.shape[-1])
    parts: list[Array] = []
    for start in range(0, len(x), size):
        run_units(
            walk.graph,
            {feed: x[start : start + size]},
            lambda made, value: parts.append(value) if made.value == output else None,
            advance if start == 0 else lambda *_: None,
            walk.instead,
        )
    return np.concatenate(parts).astype(np.float32)


def _compare(exact: Array, lossy: Array, windows: Windows) -> tuple[float | None, int]:
    """Points of accuracy lost, where there are labels; windows that change their answer."""
    before, after = answers(exact), answers(lossy)
    changed = (before != after).reshape(len(windows), -1).any(axis=1)
    if windows.y is None:
        return None, int(changed.sum())
    right = [float((given == windows.y).mean()) for given in (before, after)]
    return round(100 * (right[0] - right[1]), 3), int(changed.sum())
