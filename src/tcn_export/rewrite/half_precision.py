"""Arithmetic in float16, written into the graph.

    Relu(Conv(x, w, b))
    Cast(Relu(Conv(Cast(x, float16), w16, b16)), float32)

Inputs and outputs of the graph stay float32. Casts stand where one precision borders on the
other, one for each value. No build option is needed then, and none is left to be forgotten:
the runtimes that read a graph strictly typed (TensorRT since 10) compute what stands here.

float16 has 11 bits, its largest number is 65504, and below 6.1e-5 it loses bits (IEEE 754,
binary16). So some nodes stay in float32, each with its reason:

- element-wise nodes that read the raw input. A sensor that rests at 101,325 Pa has its signal
  in the last digits, which float16 does not have; once the mean is taken off, it has.
- sums over many steps, those over a stream with all that carries them, and exponentials;
- QuantizeLinear and DequantizeLinear, whose scales are float32, and what computes in integers
  between them;
- a node that reads, gives or holds a number beyond 65504, as was measured, or whose weights
  are so small that float16 rounds them away;
- what moves or scales numbers between two nodes in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tcn_export.graph import ADDS_UP_KEY, Refusal
from tcn_export.rewrite.base import Outcome, Rewrite, add_initializer

LARGEST = float(np.finfo(np.float16).max)
_ROUNDED_AWAY = 2.0**-11
"""Relative error of weights; none that float16 has all 11 bits for errs more."""

MOVES = frozenset({
    "Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split",
    "Squeeze", "Tile", "Transpose", "Unsqueeze",
})  # fmt: skip
"""They only move numbers, so they need no precision."""
_SCALES = frozenset({"Add", "Sub", "Mul", "Div"})
_MULTIPLIES = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Mul", "Div"})
_HALF = MOVES | _SCALES | _MULTIPLIES | {
    "Abs", "Clip", "Dropout", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Max",
    "MaxPool", "Min", "Mish", "Neg", "PRelu", "Relu", "Selu", "Sigmoid", "Softplus",
    "Softsign", "Tanh", "ThresholdedRelu", "Where",
}  # fmt: skip
_SUMS = frozenset({
    "AveragePool", "CumSum", "GlobalAveragePool", "GlobalLpPool", "GroupNormalization",
    "InstanceNormalization", "LayerNormalization", "LpNormalization", "LpPool",
    "MeanVarianceNormalization", "ReduceL1", "ReduceL2", "ReduceMean", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
})  # fmt: skip
_EXPONENTIALS = frozenset({
    "Exp", "LogSoftmax", "Pow", "ReduceLogSum", "ReduceLogSumExp", "Softmax",
})  # fmt: skip
_QUANTIZES = frozenset({"QuantizeLinear", "DequantizeLinear"})
_SPELLED = {ir.DataType.FLOAT16: "float16", ir.DataType.FLOAT: "float32"}
_SHAPES = frozenset({"Shape", "Size"})
"""They read any type."""
_SILENT = _SHAPES | {"Cast", "Constant", "ConstantOfShape"}
"""They border on float32 without computing in it."""


class HalfPrecision(Rewrite):
    """Compute in float16 wherever that keeps the signal.

    Args:
        largest: Largest absolute value of each value of the graph, by name, as measured on
            the signals that the artifact is judged on. Those without an entry count as small.
    """

    name = "half_precision"

    def __init__(self, largest: Mapping[str, float]) -> None:
        self._largest = largest

    def call(self, model: ir.Model) -> Outcome:
        """Convert what may be converted; name the rest."""
        nodes = [node for node in model.graph if _gives_or_reads(node, ir.DataType.FLOAT)]
        nodes = [node for node in nodes if node.op_type not in _SILENT]
        raw = _reading_raw_input(model.graph)
        reasons = {node: self._reason(node, node in raw) for node in nodes}
        kept = {node for node, reason in reasons.items() if reason is not None}
        between = _between(nodes, kept)
        half = [node for node in nodes if node not in kept and node not in between]
        _Conversion(model.graph, half).run()
        refusals = [
            Refusal(node.name or node.op_type, reason)
            for node, reason in reasons.items()
            if reason is not None
        ]
        return Outcome(len(half), tuple(refusals))

    def _reason(self, node: ir.Node, reads_raw: bool) -> str | None:
        """Why a node stays in float32; None where it need not."""
        if node.domain not in ("", "ai.onnx"):
            return f"`{node.domain}.{node.op_type}` is not a standard operator"
        if node.op_type in _QUANTIZES:
            return "scales of integers stay float32"
        if any(_made_by(value, _QUANTIZES) for value in node.inputs):
            return "it computes in integers"
        if ADDS_UP_KEY in node.metadata_props:
            return "it adds up over a stream, and float16 would lose or exceed the sum"
        if reads_raw:
            return "raw sensor values may rest far from zero, where float16 is coarse"
        if node.op_type in _SUMS:
            return "float16 is too coarse to add up many steps"
        if node.op_type in _EXPONENTIALS:
            return "exponentials leave the range of float16"
        if node.op_type not in _HALF:
            return f"{node.op_type} is not known to keep its precision in float16"
        return self._beyond(node) or _too_small(node)

    def _beyond(self, node: ir.Node) -> str | None:
        """Whether anything that a node touches is too large for float16."""
        reached = 0.0
        for value in filter(None, (*node.inputs, *node.outputs)):
            array = _float_constant(value)
            if array is not None:
                reached = max(reached, float(np.max(np.abs(array), initial=0.0)))
            else:
                reached = max(reached, self._largest.get(_origin(value).name or "", 0.0))
        if reached <= LARGEST:
            return None
        return f"reaches {_short(reached)}, beyond the {LARGEST:.0f} of float16"


class _Conversion:
    """Gives nodes float16 constants and outputs, and casts what crosses the border."""

    def __init__(self, graph: ir.Graph, half: Iterable[ir.Node]) -> None:
        self._graph = graph
        self._half = list(half)
        self._set = set(self._half)
        self._constants: dict[ir.Value, ir.Value] = {}
        self._casts: dict[ir.Value, ir.Value] = {}

    def run(self) -> None:
        for node in self._half:
            for index, value in enumerate(node.inputs):
                if value is not None and value.dtype == ir.DataType.FLOAT:
                    node.replace_input_with(index, self._input(value))
        for node in self._half:
            for value in node.outputs:
                if value.dtype == ir.DataType.FLOAT:
                    self._output(node, value)

    def _input(self, value: ir.Value) -> ir.Value:
        """What a node in float16 reads in place of a float32 value."""
        if value.producer() in self._set:
            return value  # turns into float16 itself
        if value.is_initializer() and not value.is_graph_input():
            return self._constant(value)
        if value not in self._casts:
            cast = _cast(value, ir.DataType.FLOAT16)
            producer = value.producer()
            if producer is None:
                self._graph.insert_before(self._graph[0], cast)
            else:
                self._graph.insert_after(producer, cast)
            self._casts[value] = cast.outputs[0]
        return self._casts[value]

    def _constant(self, value: ir.Value) -> ir.Value:
        """The constant in float16; a copy, so that whoever stays in float32 keeps his."""
        if value not in self._constants:
            assert value.const_value is not None
            array = value.const_value.numpy().astype(np.float16)
            name = f"{value.name}.float16"
            self._constants[value] = add_initializer(self._graph, name, array)
        return self._constants[value]

    def _output(self, node: ir.Node, value: ir.Value) -> None:
        """Make an output float16, and cast it for whoever wants float32."""
        value.type = ir.TensorType(ir.DataType.FLOAT16)
        others = [
            use
            for use in value.uses()
            if use.node not in self._set and use.node.op_type not in _SHAPES
        ]
        places = [i for i, output in enumerate(self._graph.outputs) if output is value]
        if not others and not places:
            return
        cast = _cast(value, ir.DataType.FLOAT)
        self._graph.insert_after(node, cast)
        for use in others:
            use.node.replace_input_with(use.idx, cast.outputs[0])
        for place in places:  # the name of an output belongs to who reads it
            self._graph.outputs[place] = cast.outputs[0]
        if places:
            name = value.name
            value.name = f"{name}.float16"
            cast.outputs[0].name = name


def _cast(value: ir.Value, dtype: ir.DataType) -> ir.Node:
    """A cast of ``value``, named after it and after what it becomes."""
    node = ir.node("Cast", [value], {"to": dtype}, name=f"{value.name}.{_SPELLED[dtype]}")
    node.outputs[0].name = node.name
    node.outputs[0].type = ir.TensorType(dtype)
    node.outputs[0].shape = value.shape
    if (producer := value.producer()) is not None:
        node.metadata_props.update(producer.metadata_props)
    return node


def _gives_or_reads(node: ir.Node, dtype: ir.DataType) -> bool:
    return any(v is not None and v.dtype == dtype for v in (*node.inputs, *node.outputs))


def _reading_raw_input(graph: ir.Graph) -> set[ir.Node]:
    """Element-wise nodes between an input of the graph and the first layer."""
    raw = {value for value in graph.inputs if not value.is_initializer()}
    found = set()
    for node in graph:
        read = _computed(node)
        if not read or not raw.issuperset(read):
            continue
        if node.op_type in _SCALES:
            found.add(node)
        if node.op_type in _SCALES | MOVES:
            raw.update(node.outputs)
    return found


def _between(nodes: list[ir.Node], kept: set[ir.Node]) -> set[ir.Node]:
    """What only moves or scales numbers on their way from float32 to float32."""
    cheap = [node for node in nodes if node.op_type in MOVES | _SCALES and node not in kept]
    fed = set(kept)
    for node in cheap:
        producers = [value.producer() for value in _computed(node)]
        if all(p is None or p in fed or p.op_type in _SILENT for p in producers):
            fed.add(node)
    wanted = set(kept)
    for node in reversed(cheap):
        readers = [use.node for value in node.outputs for use in value.uses()]
        if node in fed and all(reader in wanted for reader in readers):
            wanted.add(node)
    return wanted - kept


def _computed(node: ir.Node) -> list[ir.Value]:
    """The float32 inputs of a node that are no constants."""
    return [
        value
        for value in node.inputs
        if value is not None
        and value.dtype == ir.DataType.FLOAT
        and _float_constant(value) is None
    ]


def _float_constant(value: ir.Value) -> NDArray[np.float32] | None:
    if value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy() if value.dtype == ir.DataType.FLOAT else None


def _made_by(value: ir.Value | None, operators: frozenset[str]) -> bool:
    producer = None if value is None else value.producer()
    return producer is not None and producer.op_type in operators


def _origin(value: ir.Value) -> ir.Value:
    """The value that a cast was made of; measured is what the graph held before."""
    producer = value.producer()
    if producer is not None and producer.op_type == "Cast" and producer.inputs[0] is not None:
        return producer.inputs[0]
    return value


def _too_small(node: ir.Node) -> str | None:
    """Whether a node multiplies with numbers that float16 rounds away."""
    if node.op_type not in _MULTIPLIES:
        return None
    for value in node.inputs[:2]:
        array = None if value is None else _float_constant(value)
        if array is None:
            continue
        wide = array.astype(np.float64)
        lost = np.linalg.norm((wide - array.astype(np.float16)).ravel())
        if lost > _ROUNDED_AWAY * np.linalg.norm(wide.ravel()):
            most = float(np.max(np.abs(wide)))
            return f"its weights, {_short(most)} at most, are too small for float16"
    return None


def _short(number: float) -> str:
    return f"{number:.1e}".replace("e+0", "e").replace("e-0", "e-")
