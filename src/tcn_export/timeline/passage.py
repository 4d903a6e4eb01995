"""What a node does to time: which steps of its inputs a step of its output reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tcn_export.graph import MODULE_KEY

Steps = NDArray[np.int64]
"""Steps of a value, ascending and different."""
Moved = NDArray[np.bool_]
"""Which steps of a value moved, in several cases at once: (cases, steps)."""


class NotFollowed(Exception):  # noqa: N818 - becomes an answer
    """Raised by a rule that cannot tell what its node does to time."""


@dataclass(frozen=True, slots=True)
class Window:
    """Step t of the output reads the steps ``stride * t + offset`` of the input.

    Those outside the input are padding.

    Attributes:
        stride: Steps of the input per step of the output.
        offsets: Ascending.
        behind: Steps that are padded at the end of the input; negative where some are cropped.
    """

    stride: int = 1
    offsets: tuple[int, ...] = (0,)
    behind: int = 0

    def read_by(self, steps: Steps, length: int) -> Steps:
        """The steps of an input of ``length`` steps that ``steps`` of the output need."""
        read = (self.stride * steps[:, None] + np.array(self.offsets)).ravel()
        return np.unique(read[(read >= 0) & (read < length)])

    def moved_by(self, moved: Moved, length: int) -> Moved:
        """Which of ``length`` steps of the output read one that moved."""
        found = np.zeros((len(moved), length), np.bool_)
        for offset in self.offsets:
            read = self.stride * np.arange(length) + offset
            inside = (read >= 0) & (read < moved.shape[1])
            found[:, inside] |= moved[:, read[inside]]
        return found


@dataclass(frozen=True, slots=True)
class Picks:
    """Step i of the output reads step ``steps[i]`` of the input, from the end if negative."""

    steps: tuple[int, ...]

    def read_by(self, steps: Steps, length: int) -> Steps:
        """The steps of an input of ``length`` steps that ``steps`` of the output need."""
        return np.unique(np.array(self.steps, np.int64)[steps] % length)

    def moved_by(self, moved: Moved, length: int) -> Moved:
        """Which of ``length`` steps of the output read one that moved."""
        del length
        return moved[:, np.array(self.steps, np.int64) % moved.shape[1]]


@dataclass(frozen=True, slots=True)
class Whole:
    """The output reads every step of the input."""

    def read_by(self, steps: Steps, length: int) -> Steps:
        """All steps."""
        del steps
        return np.arange(length)

    def moved_by(self, moved: Moved, length: int) -> Moved:
        """All of ``length`` steps of the output, where any step moved."""
        return np.repeat(moved.any(axis=1, keepdims=True), length, axis=1)


Reading = Window | Picks | Whole
SAME_STEP = Window()


@dataclass(frozen=True, slots=True)
class Passage:
    """What an output of a node has of the time axis.

    Attributes:
        axis: Where the output has its time axis; None where time ends.
        reads: By position, how inputs with a time axis are read.
        end: Where time ends, in words: "the mean over time".
        refused: Why the node cannot be followed; "" where it can.
    """

    axis: int | None
    reads: Mapping[int, Reading] = field(default_factory=dict)
    end: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Timed:
    """An input with a time axis, as a rule sees it."""

    axis: int
    rank: int
    length: int | None
    """None where it is symbolic."""


def where(node: ir.Node) -> str:
    """Name a node for a message: its own name, operator and PyTorch module."""
    module = node.metadata_props.get(MODULE_KEY, "")
    place = f" in the module `{module}`" if module else ""
    return f"`{node.name}` ({node.op_type}{place})"


def read_inside(node: ir.Node) -> list[ir.Value]:
    """The values of the graph around it that a node reads inside its branches or its body."""
    bodies: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            bodies.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            bodies += attribute.as_graphs()
    read, own = [], set()
    for body in bodies:
        own |= {*body.inputs, *body.initializers.values()}
        for inner in body:
            own |= set(inner.outputs)
            read += [value for value in inner.inputs if value is not None]
            read += read_inside(inner)
        read.extend(body.outputs)
    return [value for value in dict.fromkeys(read) if value not in own]


def array_of(value: ir.Value | None) -> NDArray[np.generic] | None:
    """The array of a constant; None where the value is none."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def integers(value: ir.Value | None, what: str) -> list[int]:
    """The integers of a constant.

    Raises:
        NotFollowed: It is computed at run time.
    """
    array = array_of(value)
    if array is None:
        raise NotFollowed(f"its {what} is computed at run time")
    return [int(n) for n in np.atleast_1d(array).ravel()]


def rank_of(value: ir.Value) -> int:
    """How many axes a value has.

    Raises:
        NotFollowed: Nobody knows.
    """
    if value.shape is None:
        raise NotFollowed(f"the shape of `{value.name}` is not known")
    return len(value.shape)


def size_of(value: ir.Value, axis: int) -> int | None:
    """The size of an axis; None where it is symbolic or not known."""
    size = None if value.shape is None else value.shape[axis]
    return size if isinstance(size, int) else None
