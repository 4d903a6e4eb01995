"""An ONNX graph in units that a runtime can run one by one.

A unit is one node with what belongs to it: the constants it reads, the DequantizeLinear in
front of it, and the QuantizeLinear behind it where nobody else reads what goes in. So
a runtime finds the same integer kernel for a unit that it finds in the whole graph, and what
passes from unit to unit is what passes from layer to layer on the device.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

from tcn_export.data import Array
from tcn_export.graph import MODULE_KEY

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_ADDED = frozenset({
    _DEQUANTIZE, "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert",
    "SequenceMap", "SplitToSequence",
})  # fmt: skip
"""What belongs to the node that reads it: sequences are no arrays, to be handed on."""
_BEFORE_THE_LAST = (".float16", "_QuantizeLinear_Input")
"""What the conversions append to the name of an output whose precision they change last."""


@dataclass(frozen=True)
class Made:
    """What a unit gives, as it is told of: one float value.

    ``reads`` are the names of the values that its unit reads, as they are told of;
    ``is_quantized`` says that it is handed on in integers.
    """

    layer: str
    node: str
    operator: str
    value: str
    reads: tuple[str, ...] = ()
    is_quantized: bool = False


@dataclass(frozen=True)
class Unit:
    """One node and what belongs to it.

    Attributes:
        main: The node that computes.
        nodes: All of them, in an order that runs.
        inputs: Computed values that are read.
        outputs: Values that are given, and how each is told of; None where it is not.
    """

    main: NodeProto
    nodes: tuple[NodeProto, ...]
    inputs: tuple[str, ...]
    outputs: Mapping[str, str | None]


class CutGraph:
    """A graph and its units, in the order of the file.

    Args:
        model: A valid model with its weights inside.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._constant = set(self.constants)  # and what follows from constants alone
        self._computed: dict[str, NodeProto] = {}
        self._quantizers: dict[str, list[NodeProto]] = {}
        self._dequantizer: dict[str, NodeProto] = {}
        self._told: dict[str, str] = {}
        self._reads = Counter(name for node in model.graph.node for name in _read(node))
        self._reads.update(self.outputs)
        mains = [node for node in model.graph.node if self._is_main(node)]
        self._mains = {id(node) for node in mains}
        joined = {id(node): self._joined(node) for node in mains}
        gone = {id(quantizer) for found in joined.values() for quantizer in found}
        self.units = [self._unit(n, joined[id(n)]) for n in mains if id(n) not in gone]

    @property
    def outputs(self) -> list[str]:
        """Names of what the graph gives."""
        return [value.name for value in self.model.graph.output]

    def made(self, unit: Unit, value: str, is_quantized: bool) -> Made:
        """Where a value comes from."""
        main = unit.main
        told = {entry.key: entry.value for entry in main.metadata_props}
        name = main.name or main.output[0]
        reads = tuple(self._told.get(read, read) for read in unit.inputs)
        return Made(
            told.get(MODULE_KEY) or name, name, main.op_type, value, reads, is_quantized
        )

    def dequantized(self, name: str, value: Array) -> Array:
        """Integers in the units of what they stand for; other values as they are."""
        node = self._dequantizer.get(name)
        if value.dtype.kind not in "iu" or node is None:
            return value
        scale, *zero = (self._array(constant) for constant in node.input[1:])
        if scale.size != 1:  # activations have one scale; of others nobody is told
            return value
        shift = zero[0].astype(np.float64) if zero else 0.0
        numbers: Array = (value.astype(np.float64) - shift) * scale.astype(np.float64)
        return numbers

    def _array(self, name: str) -> Array:
        return onnx.numpy_helper.to_array(self.constants[name])

    def _is_main(self, node: NodeProto) -> bool:
        """Note what a node is; whether it is the node of a unit."""
        names = list(_read(node))
        self._computed.update(dict.fromkeys(node.output, node))
        if node.op_type == _QUANTIZE and self._constant.issuperset(names[1:]):
            self._quantizers.setdefault(names[0], []).append(node)
        if node.op_type == _DEQUANTIZE and all(n in self.constants for n in names[1:]):
            self._dequantizer.setdefault(names[0], node)
        is_constant = self._constant.issuperset(names)
        if is_constant:
            self._constant.update(node.output)
        is_added = is_constant or node.op_type in _ADDED
        return not is_added or any(output in self.outputs for output in node.output)

    def _joined(self, node: NodeProto) -> list[NodeProto]:
        """The QuantizeLinear nodes behind a node, where they are all that reads its output."""
        if node.op_type in (_QUANTIZE, _DEQUANTIZE):
            return []
        alone = (name for name in node.output if self._reads[name] == 1)
        return [q for name in alone for q in self._quantizers.get(name, ())]

    def _unit(self, main: NodeProto, quantizers: list[NodeProto]) -> Unit:
        nodes: list[NodeProto] = []
        inputs: dict[str, None] = {}
        for node in (main, *quantizers):
            self._collect(node, nodes, inputs)
        quantized = {q.input[0]: q.output[0] for q in quantizers}
        outputs: dict[str, str | None] = {}
        for name in filter(None, main.output):
            given = quantized.get(name, name)
            outputs[given] = self._told[given] = self._spoken(name)
        if main.op_type in (_DEQUANTIZE, "Cast") and self._stands_for(main):
            outputs = dict.fromkeys(outputs)  # told of where it was computed
        return Unit(main, tuple(nodes), tuple(inputs), outputs)

    def _collect(
        self, main: NodeProto, nodes: list[NodeProto], inputs: dict[str, None]
    ) -> None:
        """Add a node behind all that belongs to it; note what comes from other units."""
        done = {id(node) for node in nodes}
        waiting = [main]
        while waiting:
            node = waiting[-1]
            added = {}
            for name in _read(node):
                maker = self._computed.get(name)
                if maker is not None and id(maker) in done:
                    continue
                if maker is not None and self._is_added(maker, name):
                    added[id(maker)] = maker
                elif name not in self.constants:
                    inputs[name] = None
            waiting.extend(added.values())
            if not added:
                waiting.pop()
                if id(node) not in done:
                    done.add(id(node))
                    nodes.append(node)

    def _is_added(self, maker: NodeProto, name: str) -> bool:
        """Whether the node that makes a value belongs to every unit that reads it."""
        is_unit = id(maker) in self._mains
        return name in self._constant or (maker.op_type in _ADDED and not is_unit)

    def _spoken(self, name: str) -> str:
        """The name of an output for what is converted to it; otherwise the name itself."""
        for ending in _BEFORE_THE_LAST:
            base = name.removesuffix(ending)
            if base != name and base in self.outputs:
                return base
        return name

    def _stands_for(self, node: NodeProto) -> bool:
        """Whether a conversion only gives an output its precision."""
        maker = self._computed.get(node.input[0])
        if maker is not None and maker.op_type == _QUANTIZE:
            return self._spoken(maker.input[0]) == str(node.output[0])
        return self._spoken(node.input[0]) == str(node.output[0])


def cut_out(graph: CutGraph, unit: Unit, inputs: Mapping[str, Array]) -> ModelProto:
    """The model of one unit, for these inputs."""
    whole = graph.model
    model = ModelProto(ir_version=whole.ir_version)
    model.opset_import.extend(whole.opset_import)
    model.functions.extend(whole.functions)
    model.graph.name = unit.main.name
    model.graph.node.extend(unit.nodes)
    wanted = dict.fromkeys(name for node in unit.nodes for name in _read(node))
    model.graph.initializer.extend(
        graph.constants[name] for name in wanted if name in graph.constants
    )
    for name, value in inputs.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(name, kind, list(value.shape))
        )
    model.graph.output.extend(ValueInfoProto(name=name) for name in unit.outputs)
    return model


def _read(node: NodeProto) -> Iterator[str]:
    """Names that a node reads, those of the graphs within it included."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from _read_from_outside(graph)


def _read_from_outside(graph: GraphProto) -> Iterator[str]:
    known = {value.name for value in graph.input} | {t.name for t in graph.initializer}
    for node in graph.node:
        yield from (name for name in _read(node) if name not in known)
        known.update(node.output)
