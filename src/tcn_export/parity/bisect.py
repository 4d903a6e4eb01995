"""Where does a graph leave its tolerance? Value by value, in the order of the graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tcn_export.parity.layers import Layer, Recorded, Trace
from tcn_export.parity.metrics import decibels
from tcn_export.parity.tolerance import (
    NOISE_DRAWN_ANEW,
    layer_noise,
    roundings,
    same_sqnr_limit,
)
from tcn_export.structure import NUMBER, TEXT

LAYER_FORM = {
    "layer": TEXT,
    "node": TEXT,
    "value": TEXT,
    "operator": TEXT,
    "sqnr_db": (TEXT, NUMBER),
    "limit_db": (TEXT, NUMBER),
    "within": bool,
}
"""Of the entry of a layer in a manifest."""
_REQUANTIZED = {
    True: "in integers now, in float before",
    False: "in float now, in integers before",
}


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One value, held against float64 and against what the artifact had there before.

    Attributes:
        layer: Path of the PyTorch module, or the node's name where none is known.
        node: Name of the ONNX node.
        value: Name of what it gives.
        operator: Of the node.
        sqnr_db: Against the float32 graph in float64; None where that has no such value.
        limit_db: Least ``sqnr_db``; None likewise.
        moved_db: Against the artifact's own value, before; None where there was none.
        moved_limit_db: Least ``moved_db``; None likewise.
        within: Whether both limits are kept.
        note: What no number shows.
    """

    layer: str
    node: str
    value: str
    operator: str
    sqnr_db: float | None = None
    limit_db: float | None = None
    moved_db: float | None = None
    moved_limit_db: float | None = None
    within: bool = True
    note: str = ""

    @property
    def has_moved(self) -> bool:
        """Whether it is not what the artifact had there before."""
        return (
            self.moved_db is not None
            and self.moved_limit_db is not None
            and not self.moved_db >= self.moved_limit_db
        )

    @property
    def margin_db(self) -> float:
        """How far it is within its limit; infinite where it has none."""
        if self.sqnr_db is None or self.limit_db is None or self.sqnr_db == math.inf:
            return math.inf
        return self.sqnr_db - self.limit_db

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest; infinities become strings, which JSON lacks."""
        return {
            "layer": self.layer,
            "node": self.node,
            "value": self.value,
            "operator": self.operator,
            "sqnr_db": _plain(self.sqnr_db),
            "limit_db": _plain(self.limit_db),
            "within": self.within,
        }

    def told_whole(self) -> dict[str, Any]:
        """The same, with what was compared beside."""
        return {
            **self.to_json(),
            "moved_db": _plain(self.moved_db),
            "moved_limit_db": _plain(self.moved_limit_db),
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Before:
    """What an artifact's values were before, and how equal they have to be.

    Attributes:
        trace: The values.
        is_same_machine: Whether kernels are the same, so that only other sums differ.
        is_same_layout: Whether values of one name have one size.
        is_accepted: Whether parity was kept with them.
    """

    trace: Trace
    is_same_machine: bool
    is_same_layout: bool
    is_accepted: bool


def judge_layers(
    recorded: Recorded, now: Trace, precision: str, before: Before | None = None
) -> tuple[LayerRow, ...]:
    """Hold every value that is known from before against what it was.

    Args:
        recorded: What the export kept.
        now: The values of the graph that is judged.
        precision: Of the artifact.
        before: Its own values before; None at the export.
    """
    rows = []
    for layer in now.layers.values():
        row = LayerRow(layer.layer, layer.node, layer.value, layer.operator)
        row = _against_reference(row, layer, recorded, precision, before)
        if before is not None:
            row = _against_before(row, layer, recorded, precision, before)
        if row.sqnr_db is not None or before is not None:
            rows.append(row)
    return tuple(rows)


def _against_reference(
    row: LayerRow, layer: Layer, recorded: Recorded, precision: str, before: Before | None
) -> LayerRow:
    wanted = recorded.reference.get(layer.value)
    if wanted is None or wanted.size != layer.seen.size or not math.isfinite(wanted.energy):
        return row
    noise = layer.seen.noise(wanted)
    allowed = layer_noise(
        precision, recorded.kind, wanted.energy, recorded.float32_noise[layer.value]
    )
    kept = None if before is None else before.trace.layers.get(layer.value)
    if kept is not None and before is not None and before.is_accepted:
        once = kept.seen.noise(wanted)
        if once > allowed:  # layers may have noise that the answers do not show
            least = same_sqnr_limit(decibels(wanted.energy, once), wanted.size)
            allowed = max(allowed, wanted.energy * 10 ** (-least / 10))
    return replace(
        row,
        sqnr_db=decibels(wanted.energy, noise),
        limit_db=decibels(wanted.energy, allowed),
        within=noise <= allowed,
    )


def _against_before(
    row: LayerRow, layer: Layer, recorded: Recorded, precision: str, before: Before
) -> LayerRow:
    kept = before.trace.layers.get(layer.value)
    if kept is None:
        return replace(row, note="new")
    if kept.seen.size != layer.seen.size and not before.is_same_layout:
        return row
    if kept.seen.size != layer.seen.size:
        return replace(
            row,
            moved_db=-math.inf,
            moved_limit_db=0.0,
            within=False,
            note=f"{layer.seen.size} numbers, {kept.seen.size} before",
        )
    if kept.is_quantized != layer.is_quantized:
        return replace(row, note=_REQUANTIZED[layer.is_quantized])
    signal = kept.seen.energy
    if not math.isfinite(signal):
        return row
    allowed = roundings(signal, recorded.float32_noise.get(layer.value, 0.0))
    if precision != "float32" and not before.is_same_machine:
        wanted = recorded.reference.get(layer.value)
        if wanted is None:
            return row
        allowed = max(allowed, NOISE_DRAWN_ANEW * kept.seen.noise(wanted))
    moved = layer.seen.noise(kept.seen)
    return replace(
        row,
        moved_db=decibels(signal, moved),
        moved_limit_db=decibels(signal, allowed),
        within=row.within and moved <= allowed,
    )


def first_outside(
    rows: tuple[LayerRow, ...], now: Trace, before: Before | None
) -> LayerRow | None:
    """The layer to blame; None where every value is within its limits.

    What moved comes first: it is what changed. Where that reads what is not there any more, or
    was not there before, this is what was changed.
    """
    moved = next((row for row in rows if row.has_moved), None)
    if moved is None or before is None or not before.is_same_layout:
        return moved or next((row for row in rows if not row.within), None)
    was = before.trace.layers
    gone = _origin(moved.value, was, now.layers)
    added = _origin(moved.value, now.layers, was)
    if gone != moved.value and not (
        added != moved.value and now.layers[added].node == was[gone].node
    ):
        return _bare(was[gone], "gone from the graph")
    if added != moved.value:
        return _bare(now.layers[added], "not in the exported graph")
    for read in now.layers[moved.value].reads:
        layer = now.layers.get(read)
        if layer is not None and read in was and layer.is_quantized != was[read].is_quantized:
            return _bare(layer, _REQUANTIZED[layer.is_quantized])
    return moved


def _origin(value: str, within: Mapping[str, Layer], other: Mapping[str, Layer]) -> str:
    """From a value upwards through what the other graph does not have: the first of it."""
    seen: set[str] = set()
    while True:
        seen.add(value)
        layer = within.get(value)
        for read in layer.reads if layer is not None else ():
            if read in within and read not in other and read not in seen:
                value = read
                break
        else:
            return value


def _bare(layer: Layer, note: str) -> LayerRow:
    return LayerRow(
        layer.layer, layer.node, layer.value, layer.operator, within=False, note=note
    )


def largest_step(rows: tuple[LayerRow, ...], now: Trace) -> tuple[LayerRow, float] | None:
    """The layer that adds most noise, and the ratio in dB of what it reads.

    Noise is counted in shares of the signal: from 60 dB to 50 dB is less than from 25 to 20.
    """
    ratios = {row.value: row.sqnr_db for row in rows if row.sqnr_db is not None}
    most: tuple[LayerRow, float] | None = None
    largest = 0.0
    for row in rows:
        if row.sqnr_db is None or row.value not in now.layers:
            continue
        read = [ratios[n] for n in now.layers[row.value].reads if n in ratios]
        before = min(read, default=math.inf)
        added = _share(row.sqnr_db) - _share(before)
        if added > largest:
            most, largest = (row, before), added
    return most


def _share(ratio: float) -> float:
    """Noise as a share of the signal."""
    return 10 ** (-max(ratio, -1000.0) / 10)


def _plain(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
