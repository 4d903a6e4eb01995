"""What inputs, outputs and states in a manifest must be, and how they go together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tcn_export.graph import BATCH
from tcn_export.structure import TEXT, Maybe

DTYPES = {"float16", "float32", "float64", "int8", "uint8", "int32", "int64"}
SPEC = {
    "name": TEXT,
    "dtype": DTYPES,
    "shape": [(TEXT, int)],
    "time_axis": (None, int),
    "delay": Maybe(int),
}
STATE = {
    "input": TEXT,
    "output": TEXT,
    "shape": [(TEXT, int)],
    "batch_axis": Maybe((None, int)),
    "dtype": DTYPES,
    "in_place": bool,
}
MOST_VALUES = 2**28
"""Of a hop of one stream: a forged shape must not fill the memory."""
_LATEST = 2**53


def check_signature(entries: Mapping[str, Any]) -> None:
    """Check axes, delays, the shapes of states, and the hop of a stream.

    Args:
        entries: A manifest whose form was checked.

    Raises:
        ValueError: Something contradicts something else; the message names both.
    """
    for side in ("inputs", "outputs"):
        if not entries[side]:
            raise ValueError(f"`manifest.{side}` is empty")
        for i, spec in enumerate(entries[side]):
            _check_spec(spec, f"manifest.{side}[{i}]")
    for i, state in enumerate(entries["states"]):
        _check_state(state, f"manifest.states[{i}]")
    for end in ("input", "output"):
        names = [state[end] for state in entries["states"]]
        if len(set(names)) < len(names):
            raise ValueError(f"`manifest.states` names an {end} twice")
    hop, mode = entries["hop"], entries["mode"]
    if mode == "window" and hop is not None:
        raise ValueError(f"`manifest.hop` is {hop}, and the mode is 'window', which has none")
    if mode == "stream":
        _check_hop(hop, entries["inputs"])
        for side in ("inputs", "outputs", "states"):
            for i, entry in enumerate(entries[side]):
                _check_sizes(entry["shape"], f"manifest.{side}[{i}]")


def _check_spec(spec: Mapping[str, Any], where: str) -> None:
    axis, axes, delay = spec["time_axis"], len(spec["shape"]), spec.get("delay", 0)
    if axis is not None and not 0 <= axis < axes:
        raise ValueError(f"`{where}.time_axis` is {axis}, and its shape has {axes} axes")
    if not 0 <= delay < _LATEST or (delay and axis is None):
        raise ValueError(
            f"`{where}.delay` is {delay}, expected steps of an output that has a time axis"
        )


def _check_state(state: Mapping[str, Any], where: str) -> None:
    shape, axis = state["shape"], state.get("batch_axis")
    if axis is not None and not (0 <= axis < len(shape) and shape[axis] == 1):
        raise ValueError(
            f"`{where}.batch_axis` is {axis}, and the shape of one stream is {shape}"
        )


def _check_sizes(shape: list[int | str], where: str) -> None:
    """A stream makes its buffers from these: of one hop, for a batch that is told later."""
    sizes = [1 if n == BATCH else n for n in shape]
    is_known = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in sizes)
    if not is_known or math.prod(n for n in sizes if isinstance(n, int)) > MOST_VALUES:
        raise ValueError(
            f"`{where}.shape` is {shape}, expected 1 to {MOST_VALUES:,} values for each of "
            f"the {BATCH!r}"
        )


def _check_hop(hop: int | None, inputs: list[Mapping[str, Any]]) -> None:
    steps = [s["shape"][s["time_axis"]] for s in inputs if s["time_axis"] is not None]
    if hop is None or hop < 1 or not steps or any(n != hop for n in steps):
        found = ", ".join(map(str, steps)) or "no"
        raise ValueError(
            f"`manifest.hop` is {hop}, and the inputs of a hop have {found} steps"
        )
