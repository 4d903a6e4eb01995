"""The cone: which steps of every layer one answer needs, drawn with one row per layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tcn_export.graph import MODULE_KEY
from tcn_export.timeline.analysis import Timeline
from tcn_export.timeline.demand import demand, length_of
from tcn_export.timeline.passage import Steps, Window
from tcn_export.timeline.position import picked, positions

COLUMNS = 44
"""Beside the name of a layer and what it does, so that a row fits on a terminal of 80."""
MOST_ROWS = 40
ALL, SOME, NONE, ABSENT = "█▒· "
"""Of the steps in a column: how many are needed; `ABSENT` where the layer has none there."""


@dataclass(frozen=True, slots=True)
class Row:
    """One layer that reads several steps, or skips some.

    Attributes:
        layer: The path of its PyTorch module; the signal's own name for the signal.
        taps: Steps that it reads at once, `spacing` apart, moving by `stride`.
        spacing: Its dilation.
        stride: Its stride.
        needed: So many of its steps are needed.
        drawn: Where they are.
    """

    layer: str
    taps: int
    spacing: int
    stride: int
    needed: int
    drawn: str

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Cone:
    """What one step that the answer is read from needs of every layer.

    Attributes:
        first: The first step of the signal that is drawn, counted from the one that is read.
        per_column: So many steps of the signal share a column.
        rows: From the signal to the answer.
        left_out: Rows in the middle that are not among them.
    """

    first: int
    per_column: int
    rows: tuple[Row, ...]
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest."""
        return {
            "first": self.first,
            "per_column": self.per_column,
            "rows": [row.to_json() for row in self.rows],
            "left_out": self.left_out,
        }


def draw_cone(
    model: ir.Model, timeline: Timeline, signal: ir.Value, output: ir.Value
) -> Cone | None:
    """Draw what one step needs; None where the output does not depend on the signal.

    It is a step of the output; where time ended before, the step that was read there. Of many
    it is the last whose later steps are still within the window.

    Args:
        model: The analysed graph, its lengths known.
        timeline: What `analyze` gave for it.
        signal: The input.
        output: The output.
    """
    window = length_of(timeline, signal)
    value, step = _read_step(timeline, output, window)
    needed = demand(model, timeline, {value: np.array([step])})
    if not len(needed.get(signal, ())):
        return None
    at = int(positions(timeline, value, window)[step])
    layers = [(signal, Window(), signal.name or "")]
    for node in model.graph:
        window_read = _window_of(timeline, node)
        if window_read is not None and len(needed.get(node.outputs[0], ())):
            name = node.metadata_props.get(MODULE_KEY) or node.name or node.op_type
            layers.append((node.outputs[0], window_read, name))
    places = [positions(timeline, layer, window) for layer, _, _ in layers]
    reached = [p[needed[layer[0]]] for p, layer in zip(places, layers, strict=True)]
    low = min(int(p.min()) for p in reached)
    high = max(at, *(int(p.max()) for p in reached))
    per_column = -(-(high - low + 1) // COLUMNS)
    rows = [
        Row(
            name,
            len(read.offsets),
            int(np.diff(read.offsets[:2])[0]) if len(read.offsets) > 1 else 1,
            read.stride,
            len(reached[i]),
            _draw(places[i], reached[i], low, high, per_column),
        )
        for i, (_, read, name) in enumerate(layers)
    ]
    kept, left_out = _fit(rows)
    return Cone(low - at, per_column, kept, left_out)


def _read_step(timeline: Timeline, output: ir.Value, window: int) -> tuple[ir.Value, int]:
    """A value, and the step of it to draw."""
    track, value = timeline.tracks[output], output
    if track.axis is None and track.ends:
        value, step = track.ends[-1].read, picked(timeline, track.ends[-1])
        if step >= 0:
            return value, step
    reach = timeline.tracks[value].reach
    room = window - 1 - max(0, 0 if reach is None else reach.from_its_step().lookahead)
    fits = np.flatnonzero(positions(timeline, value, window) <= room)
    return value, int(fits[-1]) if len(fits) else 0


def _window_of(timeline: Timeline, node: ir.Node) -> Window | None:
    """How a node reads several steps, or skips some; None where it does neither."""
    for passage in timeline.passages.get(node, ())[:1]:
        for read in passage.reads.values():
            if isinstance(read, Window) and (len(read.offsets) > 1 or read.stride > 1):
                return read
    return None


def _draw(places: Steps, needed: Steps, low: int, high: int, per_column: int) -> str:
    """One character per column: how many of the layer's steps there are needed."""
    columns = (high - low) // per_column + 1

    def count(steps: Steps) -> NDArray[np.int64]:
        inside = steps[(steps >= low) & (steps <= high)]
        return np.bincount((inside - low) // per_column, minlength=columns)

    return "".join(
        ABSENT if not there else NONE if not wanted else ALL if wanted == there else SOME
        for there, wanted in zip(count(places), count(needed), strict=True)
    )


def _fit(rows: list[Row]) -> tuple[tuple[Row, ...], int]:
    """Leave rows in the middle out where there are too many."""
    left_out = len(rows) - MOST_ROWS
    if left_out <= 0:
        return tuple(rows), 0
    half = MOST_ROWS // 2
    return (*rows[:half], *rows[-half:]), left_out
