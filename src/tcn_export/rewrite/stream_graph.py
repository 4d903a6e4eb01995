"""A graph that is made anew for a hop of a stream: its nodes, constants and states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tcn_export.graph import BATCH, Dimension, StatePair

PAST, PRESENT = "past_", "present_"
"""In front of the names of state inputs and outputs, as ONNX and its users call them."""
TO_THE_END = 2**63 - 1


class StreamGraph:
    """Collects what a hop computes.

    Args:
        taken: Names that no new value may have.
    """

    def __init__(self, taken: set[str]) -> None:
        self.inputs: list[ir.Value] = []
        self.outputs: list[ir.Value] = []
        self.states: list[StatePair] = []
        self._state_inputs: list[ir.Value] = []
        self._state_outputs: list[ir.Value] = []
        self._nodes: list[ir.Node] = []
        self._constants: dict[str, ir.Value] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._taken = set(taken)

    def node(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        like: ir.Node | None = None,
    ) -> ir.Value:
        """Add a node of one output; it has the module path of the node it is ``like``."""
        new = ir.node(operator, list(inputs), dict(attributes or {}))
        self.append(new, [self.name(name)], like)
        return new.outputs[0]

    def append(self, node: ir.Node, names: Sequence[str], like: ir.Node | None) -> None:
        """Add a node whose outputs get names."""
        node.name = names[0]
        for output, name in zip(node.outputs, names, strict=True):
            output.name = name
        if like is not None:
            node.metadata_props.update(like.metadata_props)
        self._nodes.append(node)

    @contextmanager
    def marking(self, key: str) -> Iterator[None]:
        """Write a key of metadata on every node that is added meanwhile."""
        start = len(self._nodes)
        yield
        for node in self._nodes[start:]:
            node.metadata_props[key] = "1"

    def constant(self, name: str, array: NDArray[Any]) -> ir.Value:
        """A constant; equal ones are made once."""
        array = np.array(array, order="C")  # keeps scalars scalar
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            unique = self.name(name)
            tensor = ir.tensor(array, name=unique)
            value = ir.Value(
                name=unique,
                shape=ir.Shape(array.shape),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
            self._known[key] = self._constants[unique] = value
        return self._known[key]

    def integers(self, *numbers: int) -> ir.Value:
        """A constant vector of int64."""
        name = "_".join(str(n) for n in numbers)
        return self.constant(f"stream/{name}", np.array(numbers, np.int64))

    def slice(
        self,
        value: ir.Value,
        axis: int,
        start: int,
        end: int | None,
        name: str,
        step: int = 1,
        like: ir.Node | None = None,
    ) -> ir.Value:
        """Steps ``start`` to ``end`` of a value; None is its end."""
        bounds = (start, TO_THE_END if end is None else end, axis, step)
        numbers = [self.integers(n) for n in bounds]
        return self.node("Slice", [value, *numbers], name, like=like)

    def state(self, name: str, shape: Sequence[Dimension], dtype: ir.DataType) -> ir.Value:
        """What the hop before left under ``name``; zeros in the first one."""
        past = ir.Value(
            name=self.name(PAST + name), shape=ir.Shape(shape), type=ir.TensorType(dtype)
        )
        self._state_inputs.append(past)
        return past

    def leave(self, past: ir.Value, present: ir.Value, *, in_place: bool = False) -> None:
        """Leave ``present`` for the next hop, which finds it as ``past``."""
        assert past.name is not None
        assert past.shape is not None
        assert past.dtype is not None
        name = self.name(PRESENT + past.name.removeprefix(PAST))
        node = ir.node("Identity", [present])
        self.append(node, [name], present.producer())
        output = node.outputs[0]
        output.shape, output.type = past.shape.copy(), ir.TensorType(past.dtype)
        self._state_outputs.append(output)
        shape = tuple(n if isinstance(n, int) else str(n.value) for n in past.shape)
        dtype = str(past.dtype.numpy())
        self.states.append(StatePair(past.name, name, shape, dtype, in_place))

    def name(self, name: str) -> str:
        """``name``, or ``name_2`` and so on where that is taken."""
        unique, n = name, 2
        while unique in self._taken:
            unique, n = f"{name}_{n}", n + 1
        self._taken.add(unique)
        return unique

    def keep(self, constant: ir.Value) -> ir.Value:
        """A constant of the graph that the stream is made from."""
        assert constant.name is not None
        if constant.name not in self._constants:
            self._constants[constant.name] = ir.Value(
                name=constant.name,
                shape=constant.shape,
                type=constant.type,
                const_value=constant.const_value,
            )
        return self._constants[constant.name]

    def model(self, like: ir.Model) -> ir.Model:
        """The finished graph, with versions and notes of the model that it is made from."""
        graph = ir.Graph(
            [*self.inputs, *self._state_inputs],
            [*self.outputs, *self._state_outputs],
            nodes=self._nodes,
            initializers=list(self._constants.values()),
            opset_imports=dict(like.graph.opset_imports),
            name=like.graph.name,
        )
        model = ir.Model(graph, ir_version=like.ir_version)
        model.producer_name = like.producer_name
        return model


def with_steps(value: ir.Value, axis: int, steps: int) -> list[Dimension]:
    """The shape of a value, its batch open and with so many steps."""
    assert value.shape is not None
    shape: list[Dimension] = [n if isinstance(n, int) else str(n.value) for n in value.shape]
    shape[axis] = steps
    if axis != 0 and not isinstance(value.shape[0], int):
        shape[0] = BATCH
    return shape
