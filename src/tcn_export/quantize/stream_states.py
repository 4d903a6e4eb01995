"""States of a quantised stream as the integers that its convolutions read.

    Concat(past, DQ(Q(chunk))) -> Q -> DQ -> Conv   ->   Concat(past, Q(chunk)) -> DQ -> Conv

The past, the chunk and both together have one scale (`stream_ranges.tied`), so nothing is
rounded when a hop is put behind its past: a step is the same integer in every hop that reads
it, and a state takes a quarter of the memory. States are zeros when a stream begins, and that
must mean the number 0: where 0 is another integer, states are kept as its exclusive or with
each of them, which loses nothing either. (ONNX BitwiseXor, of operator version 18.)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from tcn_export.graph import Graph, StatePair, Step
from tcn_export.quantize.stream_ranges import MOVERS, past_of
from tcn_export.rewrite.base import checked, unused_name

_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
_HAS_XOR = 18
"""The first operator set with an exclusive or of integers."""


@dataclass(frozen=True, slots=True)
class _State:
    """A state whose readers all want it quantised, with the same scale.

    Attributes:
        pair: As the signature has it.
        concat: Puts the chunk behind the past.
        quantizers: What readers have in front of them.
        keeper: Gives the state for the next hop.
        cut: Takes its steps; None where it is all of ``source``.
        source: Of what it is taken: of the chunk, or of the chunk behind its past.
    """

    pair: StatePair
    concat: ir.Node
    quantizers: Sequence[ir.Node]
    keeper: ir.Node
    cut: ir.Node | None
    source: ir.Value


def keep_integers(graph: Graph) -> Graph:
    """Let the states of a quantised stream be integers wherever all that read them are.

    Args:
        graph: The Q/DQ graph of a hop, from tied ranges. States of others, such as sums, masks
            and what layers in float32 read, stay as they are: a float32 state that holds
            dequantised numbers is as exact.

    Returns:
        The graph with the new dtypes in its signature; its states keep their names.
    """
    start = time.perf_counter()
    model = graph.model.clone()
    opset = model.graph.opset_imports.get("", 0)
    states, changed = [], 0
    for pair in graph.signature.states:
        state = _read(model, pair)
        if state is not None and (opset >= _HAS_XOR or not _zero(state.quantizers[0]).any()):
            pair = _convert(model.graph, state)
            changed += 1
        states.append(pair)
    common.RemoveUnusedNodesPass()(model)
    common.TopologicalSortPass()(model)
    step = Step("integer_states", changed, (), time.perf_counter() - start)
    signature = replace(graph.signature, states=tuple(states))
    return Graph(checked(model), signature, (*graph.history, step))


def _read(model: ir.Model, pair: StatePair) -> _State | None:
    """What surrounds a state; None where it is none of those that become integers."""
    (past,) = (v for v in model.graph.inputs if v.name == pair.input)
    (present,) = (v for v in model.graph.outputs if v.name == pair.output)
    keeper = present.producer()
    uses = list(past.uses())
    if keeper is None or keeper.op_type != "Identity" or len(uses) != 1:
        return None
    concat = uses[0].node
    if not past_of(concat, [pair.input]):
        return None
    path, cut, source = _walk_back(keeper, concat)
    if source is None:
        return None
    quantizers = _quantizers(concat.outputs[0], path)
    if not quantizers or any(not _equal(quantizers[0], other) for other in quantizers):
        return None
    return _State(pair, concat, quantizers, keeper, cut, source)


def _walk_back(
    keeper: ir.Node, concat: ir.Node
) -> tuple[set[ir.Node], ir.Node | None, ir.Value | None]:
    """The nodes from a state back to what it is taken from, the Slice among them, and that."""
    chunk = concat.inputs[1]
    ends = {concat.outputs[0]: concat.outputs[0]}
    while chunk is not None:  # the chunk, and what it is dequantised from
        ends[chunk] = concat.inputs[1] or chunk
        maker = chunk.producer()
        chunk = maker.inputs[0] if maker is not None and maker.op_type in (_Q, _DQ) else None
    path, cut = {keeper}, None
    value = keeper.inputs[0]
    while value is not None and value not in ends:
        node = value.producer()
        if node is None or node.op_type not in ("Slice", _Q, _DQ):
            return path, cut, None
        if node.op_type == "Slice":
            if cut is not None:
                return path, cut, None
            cut = node
        path.add(node)
        value = node.inputs[0]
    return path, cut, None if value is None else ends[value]


def _quantizers(value: ir.Value, path: set[ir.Node]) -> list[ir.Node] | None:
    """All that quantise a value, at once or behind nodes that move it; None if others read it.

    Args:
        value: In float32.
        path: Nodes that only keep it for the next hop.
    """
    found: list[ir.Node] = []
    for use in value.uses():
        if use.node.op_type == _Q:
            found.append(use.node)
        elif use.node.op_type in MOVERS and use.node not in path:
            behind = _quantizers(use.node.outputs[0], path)
            if not behind or use.node.outputs[0].is_graph_output():
                return None
            found += behind
        elif use.node not in path:
            return None
    return found


def _convert(graph: ir.Graph, state: _State) -> StatePair:
    quantizer = state.quantizers[0]
    zero = quantizer.inputs[2]
    assert zero is not None
    assert zero.dtype is not None
    (past,) = (v for v in graph.inputs if v.name == state.pair.input)
    past.type = ir.TensorType(zero.dtype)
    is_offset = bool(_zero(quantizer).any())
    chunk = _chunk(graph, state.concat, quantizer)
    inner = past
    if is_offset:
        inner = _add(graph, "BitwiseXor", [past, zero], f"{past.name}/integers", state.concat)
    full = state.concat.outputs[0]
    source = full if state.source is full else chunk
    state.concat.replace_input_with(0, inner)
    state.concat.replace_input_with(1, chunk)
    _retype(full, zero.dtype, state.quantizers)
    for each in state.quantizers:
        assert each.inputs[0] is not None
        each.outputs[0].replace_all_uses_with(each.inputs[0])
    kept = source
    if state.cut is not None:
        bounds = state.cut.inputs[1:]
        name = f"{state.cut.outputs[0].name}/integers"
        kept = _add(graph, "Slice", [source, *bounds], name, state.keeper)
    if is_offset:
        kept = _add(graph, "BitwiseXor", [kept, zero], f"{kept.name}/stored", state.keeper)
    state.keeper.replace_input_with(0, kept)
    state.keeper.outputs[0].type = ir.TensorType(zero.dtype)
    return replace(state.pair, dtype=str(zero.dtype.numpy()))


def _chunk(graph: ir.Graph, concat: ir.Node, quantizer: ir.Node) -> ir.Value:
    """The steps of a hop as integers: as somebody quantised them already, or anew."""
    chunk = concat.inputs[1]
    assert chunk is not None
    giver = chunk.producer()
    if giver is not None and giver.op_type == _DQ and _equal(giver, quantizer):
        assert giver.inputs[0] is not None
        return giver.inputs[0]
    for use in chunk.uses():
        if use.node.op_type == _Q and _equal(use.node, quantizer):
            return use.node.outputs[0]
    inputs = [chunk, *quantizer.inputs[1:]]
    return _add(graph, _Q, inputs, f"{chunk.name}/integers", concat)


def _retype(value: ir.Value, dtype: ir.DataType, ends: Sequence[ir.Node]) -> None:
    """Let a value, and all that is moved of it up to where it was quantised, be integers."""
    value.type = ir.TensorType(dtype)
    for use in value.uses():
        if use.node.op_type in MOVERS and any(e in ends for e in _behind(use.node)):
            _retype(use.node.outputs[0], dtype, ends)


def _behind(node: ir.Node) -> set[ir.Node]:
    """The nodes behind one, as far as nothing but movers lies between."""
    found = {use.node for use in node.outputs[0].uses()}
    return found.union(*(_behind(n) for n in found if n.op_type in MOVERS))


def _add(
    graph: ir.Graph, operator: str, inputs: Sequence[ir.Value | None], name: str, like: ir.Node
) -> ir.Value:
    node = ir.node(operator, list(inputs))
    node.name = node.outputs[0].name = unused_name(graph, name)
    node.outputs[0].type = ir.TensorType(ir.DataType.UNDEFINED)
    node.metadata_props.update(like.metadata_props)
    graph.append(node)
    return node.outputs[0]


def _equal(first: ir.Node, second: ir.Node) -> bool:
    """Whether two nodes convert with the same single scale and zero point."""
    for i in (1, 2):
        one, other = _constant(first, i), _constant(second, i)
        if one is None or other is None or one.size != 1 or one.dtype != other.dtype:
            return False
        if not np.array_equal(one.ravel(), other.ravel()):
            return False
    return True


def _zero(quantizer: ir.Node) -> NDArray[Any]:
    zero = _constant(quantizer, 2)
    assert zero is not None, "compared before, by `_equal`"
    return zero


def _constant(node: ir.Node, index: int) -> NDArray[Any] | None:
    value = node.inputs[index]
    tensor = None if value is None else value.const_value
    return None if tensor is None else tensor.numpy()
