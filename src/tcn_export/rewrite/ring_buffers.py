"""Ring buffers of a stream: what was computed in earlier steps, read at once, written at once.

A value that is read up to M steps later has M rows of a ring; step n lies in row ``n mod M``,
and the row that a step overwrites is the oldest one that it reads. All values of equal width
lie in one ring, a state of shape (rows, batch, width). How many steps there were is a state as
well; all rows are computed of it as one vector, so that one Gather reads every old step of
every layer and one ScatterND writes every new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from tcn_export.graph import Dimension
from tcn_export.rewrite.base import Refused
from tcn_export.rewrite.stream_graph import StreamGraph, with_steps

Lags = tuple[int, ...]
"""How many steps ago a step was computed, the oldest first; 0 is the one of now."""
_NO_VALUES = frozenset({"Shape", "Size"})
"""Operators whose outputs a runtime may know without having computed their inputs."""


@dataclass(slots=True)
class _Ring:
    """One state: which values lie in it, where, and what is read of them."""

    past: ir.Value
    width: int
    rows: int = 0
    starts: dict[ir.Value, int] = field(default_factory=dict)
    sizes: dict[ir.Value, int] = field(default_factory=dict)
    reads: list[tuple[ir.Value, Lags]] = field(default_factory=list)
    gathered: ir.Node | None = None
    places: ir.Value | None = None
    """Rows that are written, (values, 1)."""

    def columns(self) -> list[tuple[ir.Value, int]]:
        """Every old step that is read, and then, as lag 0, where every new one is written."""
        old = [(value, lag) for value, lags in self.reads for lag in lags]
        return [*old, *((value, 0) for value in self.starts)]


class Rings:
    """The rings of a graph.

    Args:
        graph: What they are added to.
        wanted: By value, the lags that its readers read together; 0 among them or not.
        axis_of: The time axis of a value, which its rows do not have.
    """

    def __init__(
        self,
        graph: StreamGraph,
        wanted: Mapping[ir.Value, list[Lags]],
        axis_of: Callable[[ir.Value], int],
    ) -> None:
        self._graph = graph
        self._count: ir.Value | None = None
        self._rings: dict[tuple[tuple[Dimension, ...], ir.DataType], _Ring] = {}
        self._ring_of: dict[ir.Value, _Ring] = {}
        self._pieces: dict[tuple[ir.Value, Lags], ir.Value] = {}
        self._written: dict[ir.Value, ir.Value] = {}
        for value, readings in wanted.items():
            self._plan(value, axis_of(value), readings)
        self._gather()

    @property
    def count(self) -> ir.Value:
        """How many steps there were before this one, shape (1,)."""
        if self._count is None:
            self._count = self._graph.state("steps", [1], ir.DataType.INT64)
        return self._count

    def old(self, value: ir.Value, lags: Lags) -> ir.Value:
        """Steps of a value, one beside the other: (batch, lags * width)."""
        return self._pieces[value, lags]

    def write(self, value: ir.Value, new: ir.Value) -> None:
        """Keep the step of now, if anybody reads it later."""
        if value in self._ring_of:
            self._written[value] = new

    def close(self) -> None:
        """Write what was computed, when all of it was."""
        for ring in self._rings.values():
            self._scatter(ring)
        if self._count is not None:
            one = self._graph.integers(1)
            self._graph.leave(
                self._count, self._graph.node("Add", [self._count, one], "steps/next")
            )

    def _plan(self, value: ir.Value, axis: int, readings: list[Lags]) -> None:
        memory = max((lag for lags in readings for lag in lags), default=0)
        if not memory:
            return
        batch, width = _row_of(value, axis)
        assert value.dtype is not None
        key = (batch, width), value.dtype
        if key not in self._rings:
            past = self._graph.state(f"ring_{width}", [0, batch, width], value.dtype)
            self._rings[key] = _Ring(past, width)
        ring = self._rings[key]
        ring.starts[value], ring.sizes[value] = ring.rows, memory
        ring.rows += memory
        ring.past.shape = ir.Shape([ring.rows, batch, width])
        self._ring_of[value] = ring
        for lags in dict.fromkeys(tuple(lag for lag in lags if lag) for lags in readings):
            if lags:
                ring.reads.append((value, lags))

    def _gather(self) -> None:
        rings = list(self._rings.values())
        if not rings:
            return
        places = self._places(rings)
        for ring, read, written in zip(rings, places[::2], places[1::2], strict=True):
            ring.places = written
            name = f"{ring.past.name}/old"
            old = self._graph.node("Gather", [ring.past, read], name, {"axis": 0})
            ring.gathered = old.producer()
            old = self._graph.node("Transpose", [old], name, {"perm": [2, 0, 1, 3]})
            lengths = [len(lags) * ring.width for _, lags in ring.reads]
            shape = self._graph.integers(-1, sum(lengths))
            old = self._graph.node("Reshape", [old, shape], name)
            names = [f"{value.name}/old" for value, _ in ring.reads]
            self._pieces.update(
                zip(ring.reads, self._split(old, 1, lengths, names), strict=True)
            )

    def _places(self, rings: list[_Ring]) -> list[ir.Value]:
        """Rows: for every ring those to read and those to write, shape (rows, 1)."""
        graph = self._graph
        ahead, sizes, starts, lengths = [], [], [], []
        for ring in rings:
            for value, lag in ring.columns():
                ahead.append(ring.sizes[value] - lag)  # as good as -lag, and not below 0
                sizes.append(ring.sizes[value])
                starts.append(ring.starts[value])
            lengths += [len(ring.columns()) - len(ring.starts), len(ring.starts)]
        column = [np.array(numbers, np.int64)[:, None] for numbers in (ahead, sizes, starts)]
        names = ("rows/ahead", "rows/sizes", "rows/starts")
        constants = [graph.constant(n, array) for n, array in zip(names, column, strict=True)]
        rows = graph.node("Add", [self.count, constants[0]], "rows/steps")
        rows = graph.node("Mod", [rows, constants[1]], "rows/within")
        rows = graph.node("Add", [rows, constants[2]], "rows")
        return self._split(rows, 0, lengths, ["rows/part"] * len(lengths))

    def _split(
        self, value: ir.Value, axis: int, lengths: list[int], names: list[str]
    ) -> list[ir.Value]:
        if len(lengths) == 1:
            return [value]
        sizes = self._graph.integers(*lengths)
        node = ir.node("Split", [value, sizes], {"axis": axis}, num_outputs=len(lengths))
        self._graph.append(node, [self._graph.name(name) for name in names], None)
        return list(node.outputs)

    def _scatter(self, ring: _Ring) -> None:
        graph, name = self._graph, ring.past.name or ""
        new = [self._written[value] for value in ring.starts]
        if len(new) > 1:
            new = [graph.node("Concat", new, f"{name}/new", {"axis": 0})]
        shape = graph.integers(len(ring.starts), -1, ring.width)
        updates = graph.node("Reshape", [new[0], shape], f"{name}/new")
        inputs = [ring.past, ring.places, updates]
        present = graph.node("ScatterND", inputs, f"{name}/written")
        assert ring.gathered is not None
        graph.leave(ring.past, present, in_place=_needs(updates, ring.gathered))


def _row_of(value: ir.Value, axis: int) -> tuple[Dimension, int]:
    """Batch and width of one step of a value.

    Raises:
        Refused: It is no vector for every stream of the batch.
    """
    batch, *width = [n for i, n in enumerate(with_steps(value, axis, 1)) if i != axis]
    if len(width) == 1 and isinstance(width[0], int):
        return batch, width[0]
    raise Refused(
        f"`{value.name}` has to be kept, and its steps are no vectors: its shape is "
        f"{value.shape}, with time on axis {axis}"
    )


def _needs(value: ir.Value, node: ir.Node) -> bool:
    """Whether a value cannot be computed before a node has run."""
    open_, seen = [value], set()
    while open_:
        producer = open_.pop().producer()
        if producer is node:
            return True
        if producer is None or producer in seen or producer.op_type in _NO_VALUES:
            continue
        seen.add(producer)
        open_ += [v for v in producer.inputs if v is not None]
    return False
