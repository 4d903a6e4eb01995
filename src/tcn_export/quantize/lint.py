"""Is a finished Q/DQ graph what its consumer was promised? Violations, by node.

The quantiser was asked for a dialect; this reads what it wrote. Where a rule is broken, a
runtime says nothing: it computes in float, or with other numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tcn_export.quantize.dialects import Dialect

_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_COMPUTING = (*_WEIGHTED, "Add")
_LARGEST = {False: 127, True: 64}
"""Of weights, by whether the dialect asks for 7 bits."""
_ROUNDING = 1e-6
"""The scale of a bias is a product of two float32 numbers, rounded once."""

Rule = Callable[[ir.Node, Dialect], Iterator[str]]


def check_dialect(model: ir.Model, dialect: Dialect, in_float: Collection[str] = ()) -> None:
    """Hold a quantised model to its dialect.

    Args:
        model: As it goes to the runtime.
        dialect: What the runtime was promised.
        in_float: Names of nodes that stay in float32 on purpose.

    Raises:
        AssertionError: It is not of the dialect: a fault of this package, not of the user's.
    """
    found = violations(model, dialect, in_float)
    assert not found, f"the graph is not {dialect.name}: " + "; ".join(found)


def violations(model: ir.Model, dialect: Dialect, in_float: Collection[str] = ()) -> list[str]:
    """What of a quantised model is not of its dialect: ``node: rule``; as `check_dialect`."""
    found = []
    version = model.graph.opset_imports.get("", 0)
    if version > dialect.newest_opset:
        found.append(f"graph: operator set {version}, at most {dialect.newest_opset}")
    for node in model.graph:
        rules = list(_RULES.get(node.op_type, ()))
        if node.op_type in dialect.operators and node.name not in in_float:
            rules.append(_is_quantized)
        found += [f"{node.name}: {text}" for rule in rules for text in rule(node, dialect)]
    return found


def _activation(node: ir.Node, dialect: Dialect) -> Iterator[str]:
    """Type and zero point of a value between layers."""
    zero = _constant(node, 2)
    if zero is None or str(zero.dtype) != dialect.activation:
        found = "unknown" if zero is None else str(zero.dtype)
        yield f"activations are {found}, expected {dialect.activation}"
    elif dialect.symmetric and zero.any():
        yield f"the zero point is {zero.reshape(-1)[0]}, expected 0"


def _scale(node: ir.Node, _: Dialect) -> Iterator[str]:
    scale = _constant(node, 1)
    if scale is None:
        yield "the scale is no constant"
    elif not (np.isfinite(scale) & (scale >= np.finfo(np.float32).tiny)).all():
        yield f"a scale is {scale.reshape(-1).min()}, expected a normal number above 0"


def _weight(node: ir.Node, dialect: Dialect) -> Iterator[str]:
    """Type, zero point, size and axis of weights; values that are computed are none."""
    giver = _giver(node, 1)
    weight = None if giver is None else _constant(giver, 0)
    if giver is None or weight is None:
        return
    if str(weight.dtype) != dialect.weight:
        yield f"weights are {weight.dtype}, expected {dialect.weight}"
        return
    zero, scale = _constant(giver, 2), _constant(giver, 1)
    if zero is not None and zero.any():
        yield "the zero point of the weights is not 0"
    largest = int(np.abs(weight.astype(int)).max(initial=0))
    if largest > _LARGEST[dialect.reduce_range]:
        yield f"a weight is {largest}, expected at most {_LARGEST[dialect.reduce_range]}"
    axis = _axis_of_outputs(node, weight)
    if dialect.per_channel and scale is not None:
        given = giver.attributes.get_int("axis", 1) % weight.ndim
        if scale.size != weight.shape[axis] or (scale.size > 1 and given != axis):
            where = f"{scale.size} weight scales on axis {given}"
            yield f"{where}, expected one per output channel"


def _bias(node: ir.Node, dialect: Dialect) -> Iterator[str]:
    giver, read, weight = _giver(node, 2), _giver(node, 0), _giver(node, 1)
    if len(node.inputs) < 3 or node.inputs[2] is None or read is None or weight is None:
        return
    if dialect.float_bias:
        if giver is not None:
            yield "the bias is quantised, expected float32"
        return
    bias = None if giver is None else _constant(giver, 0)
    if giver is None or bias is None or bias.dtype != np.int32:
        yield "the bias is not int32"
        return
    scales = [_constant(each, 1) for each in (giver, read, weight)]
    if all(scale is not None for scale in scales):
        given, first, second = (np.asarray(scale, np.float64) for scale in scales)
        if not np.allclose(given, first * second, rtol=_ROUNDING, atol=0):
            yield "the scale of the bias is not that of the input times that of the weights"


def _is_quantized(node: ir.Node, dialect: Dialect) -> Iterator[str]:
    """Every operand that the operator computes with comes out of a DequantizeLinear."""
    if node.op_type not in _COMPUTING or node.outputs[0].dtype != ir.DataType.FLOAT:
        return
    constant = any(v is not None and v.const_value is not None for v in node.inputs)
    if node.op_type == "Add" and dialect.inputs_only and constant:
        return  # biases and normalisations, which want full precision; see `qdq`
    if any(_giver(node, i) is None for i in (0, 1)):
        yield "left in float32, though the dialect lists its operator"


_RULES: dict[str, tuple[Rule, ...]] = {
    _Q: (_activation, _scale),
    _DQ: (_scale,),
    "Conv": (_weight, _bias),
    "Gemm": (_weight, _bias),
    "MatMul": (_weight,),
}


def _axis_of_outputs(node: ir.Node, weight: NDArray[Any]) -> int:
    turned = node.attributes.get("transB")
    is_first = node.op_type == "Conv" or (turned is not None and turned.as_int() == 1)
    return 0 if is_first else weight.ndim - 1


def _giver(node: ir.Node, index: int) -> ir.Node | None:
    """The DequantizeLinear that gives an input; None where another node gives it."""
    value = node.inputs[index] if index < len(node.inputs) else None
    maker = None if value is None else value.producer()
    return maker if maker is not None and maker.op_type == _DQ else None


def _constant(node: ir.Node, index: int) -> NDArray[Any] | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    tensor = None if value is None else value.const_value
    return None if tensor is None else tensor.numpy()
