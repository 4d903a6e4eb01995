"""What one window costs a graph, in multiply-accumulates."""

from __future__ import annotations

import math

import onnx_ir as ir

_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
_KEEP_ELEMENTS = frozenset({"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""They give as many elements as they take, whatever the shapes say of the batch."""


def multiplications(model: ir.Model) -> int:
    """Count multiply-accumulates for one window; one per element of all other operators.

    Weights count as often as they are used: for every step, and for every row where a network
    puts its channels into the batch.

    Args:
        model: With inferred shapes; what is symbolic in them comes from the batch.
    """
    elements: dict[ir.Value, float] = {v: _known(v) for v in model.graph.inputs}
    cost = 0.0
    for node in model.graph:
        taken = [v for v in node.inputs if v is not None and v in elements]
        if not taken:  # of constants alone
            continue
        share = max(elements[v] / _known(v) for v in taken)
        for output in node.outputs:
            elements[output] = share * _known(output)
        if node.op_type in _KEEP_ELEMENTS:
            elements[node.outputs[0]] = elements[taken[0]]
        of_output, of_input = elements[node.outputs[0]], elements[taken[0]]
        cost += of_output * _per_output(node) + of_input * _per_input(node)
    return int(cost)


def _per_output(node: ir.Node) -> float:
    """Multiply-accumulates per element of the output."""
    first, weight = (*node.inputs, None, None)[:2]
    if node.op_type == "Conv" and weight is not None:
        return _known(weight) / _axis(weight, 0)
    if node.op_type == "Gemm" and first is not None:
        return _axis(first, 0 if node.attributes.get_int("transA", 0) else 1)
    if node.op_type in ("MatMul", "Einsum") and first is not None:
        return _axis(first, -1)
    return 1


def _per_input(node: ir.Node) -> float:
    """Multiply-accumulates per element of the first input."""
    first, weight, recurrence = (*node.inputs, None, None, None)[:3]
    if node.op_type == "ConvTranspose" and weight is not None:
        return _known(weight) / _axis(weight, 0)
    if node.op_type in _RECURRENT and first is not None and weight is not None:
        weights = _known(weight) + (0 if recurrence is None else _known(recurrence))
        return weights / _axis(first, -1)
    return 0


def _known(value: ir.Value) -> int:
    """The product of the sizes that are known."""
    return math.prod(size for size in value.shape or () if isinstance(size, int) and size > 0)


def _axis(value: ir.Value, axis: int) -> int:
    """The size of an axis; 1 where nobody knows it."""
    size = value.shape[axis] if value.shape else 1
    return size if isinstance(size, int) and size > 0 else 1
