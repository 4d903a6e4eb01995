"""The types that flow through the stages: specifications, signature, graph and its history.

Importing this file needs no optional package: a device that only runs bundles uses `Signature`
too. Frozen throughout; a stage returns a new value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir

Dimension = int | str
"""A size, or the name of a symbol such as ``batch`` whose size is known at run time only."""

MODULE_KEY = "tcn_export.module"
"""Node metadata: the path of the PyTorch module that a node comes from."""

ADDS_UP_KEY = "tcn_export.adds_up"
"""Node metadata: part of a sum over a stream, which only grows and has to stay exact."""

BATCH = "batch"
LENGTH = "length"
LONGEST = 1_000_000
"""Steps of the longest window; a forged length must not fill the memory."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: name, dtype (as numpy spells it), shape, and which axis is time.

    Of a stream the shape is that of one hop, and the first ``delay`` steps of an output come
    before its step 0: they mean nothing.
    """

    name: str
    dtype: str
    shape: tuple[Dimension, ...]
    time_axis: int | None = None
    delay: int = 0

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of ``shape`` fits; a symbol fits any size of at least one.

        >>> TensorSpec("x", "float32", ("batch", 6, 128)).accepts((4, 6, 128))
        True
        """
        return len(shape) == len(self.shape) and all(
            size == want if isinstance(want, int) else size >= 1
            for size, want in zip(shape, self.shape, strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "time_axis": self.time_axis,
            **({"delay": self.delay} if self.delay else {}),
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> TensorSpec:
        """Read an entry of a manifest whose form was checked."""
        shape = tuple(entry["shape"])
        delay = entry.get("delay", 0)
        return cls(entry["name"], entry["dtype"], shape, entry["time_axis"], delay)


@dataclass(frozen=True, slots=True)
class StatePair:
    """A state that the caller feeds back: the output of one step is the input of the next.

    ``in_place`` says that one buffer may be bound as both.
    """

    input: str
    output: str
    shape: tuple[Dimension, ...]
    dtype: str
    in_place: bool = False

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest; its shape is that of one stream."""
        is_batched = BATCH in self.shape
        return {
            "input": self.input,
            "output": self.output,
            "shape": [1 if n == BATCH else n for n in self.shape],
            "batch_axis": self.shape.index(BATCH) if is_batched else None,
            "dtype": self.dtype,
            "in_place": self.in_place,
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> StatePair:
        """Read an entry of a manifest whose form was checked."""
        shape: list[Dimension] = list(entry["shape"])
        if entry.get("batch_axis") is not None:
            shape[entry["batch_axis"]] = BATCH
        return cls(
            entry["input"],
            entry["output"],
            tuple(shape),
            entry["dtype"],
            entry["in_place"],
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes in and what comes out; states are listed among neither inputs nor outputs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StatePair, ...] = ()

    @property
    def hop(self) -> int:
        """Steps of the signal that a stream takes at a time."""
        (size,) = {s.shape[s.time_axis] for s in self.inputs if s.time_axis is not None}
        assert isinstance(size, int)
        return size

    def of_whole_signals(self) -> Signature:
        """What a stream is, to who feeds it whole signals: any number of steps, no states."""
        inputs, outputs = (
            tuple(
                replace(
                    spec,
                    delay=0,
                    shape=tuple(
                        LENGTH if axis == spec.time_axis else n
                        for axis, n in enumerate(spec.shape)
                    ),
                )
                for spec in specs
            )
            for specs in (self.inputs, self.outputs)
        )
        return Signature(inputs, outputs)

    def with_length(self, length: int | None) -> Signature:
        """The signature with `LENGTH` fixed; None leaves it symbolic."""
        if length is None:
            return self
        inputs, outputs = (
            tuple(
                replace(spec, shape=tuple(length if n == LENGTH else n for n in spec.shape))
                for spec in specs
            )
            for specs in (self.inputs, self.outputs)
        )
        return replace(self, inputs=inputs, outputs=outputs)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A near miss of a rewrite: the node that almost matched and why it was left alone."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """One rewrite in a graph's history; ``modified`` counts the places it changed."""

    name: str
    modified: int
    refusals: tuple[Refusal, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest."""
        return {
            "name": self.name,
            "modified": self.modified,
            "refusals": [{"node": r.node, "reason": r.reason} for r in self.refusals],
            "seconds": round(self.seconds, 4),
        }


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX model with its signature and what was done to it so far."""

    model: ir.Model
    signature: Signature
    history: tuple[Step, ...] = ()
