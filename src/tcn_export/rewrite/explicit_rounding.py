"""float16 arithmetic in float32 numbers, so that a processor without float16 computes it.

    Conv(x: float16, w: float16)
    Cast(Concat(Cast(Conv(x: float32, w: float32), float16)), float32)

ONNX Runtime has hardly any float16 kernels for CPUs. It widens a float16 graph to float32, and
removes the casts that this leaves back to back, at every optimisation level: nothing but the
weights is rounded, and nothing overflows. Measured on it, a float16 artifact would look 70 dB
better than it is. Here every node computes in float32 and its result is rounded to float16, as
a GPU does that adds in float32 and stores in float16. The Concat of one tensor moves nothing;
it stands between two casts because the runtime leaves them alone then.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from tcn_export.rewrite.base import Outcome, Rewrite, bypass
from tcn_export.rewrite.half_precision import MOVES

_EXACT = MOVES | {"Relu", "Abs", "Neg", "Max", "Min", "MaxPool"}
"""Of float16 numbers they make float16 numbers, without rounding."""
_HALF = ir.DataType.FLOAT16
_DONE = "tcn_export.explicit_rounding"


class ExplicitRounding(Rewrite):
    """Replace float16 arithmetic by float32 arithmetic that is rounded to float16."""

    name = "explicit_rounding"

    def call(self, model: ir.Model) -> Outcome:
        """Widen every float16 value, and round where it was computed."""
        todo = [node for node in model.graph if _DONE not in node.metadata_props]
        nodes = [node for node in todo if _half(node.outputs)]
        widened = [node for node in todo if _widens(node)]
        for value in [*model.graph.initializers.values()]:
            if value.dtype == _HALF:
                assert value.const_value is not None
                array = value.const_value.numpy().astype(np.float32)
                value.const_value = ir.tensor(array, name=value.name)
                value.type = ir.TensorType(ir.DataType.FLOAT)
        for node in nodes:
            for value in _half(node.outputs):
                _round(node, value)
        for node in widened:
            assert node.inputs[0] is not None
            bypass(node, node.inputs[0])
        return Outcome(len(nodes))


def _half(values: Sequence[ir.Value]) -> list[ir.Value]:
    return [value for value in values if value.dtype == _HALF]


def _widens(node: ir.Node) -> bool:
    """Whether a node casts float16 to float32: nothing to do any more."""
    source = node.inputs[0] if node.op_type == "Cast" else None
    return (
        source is not None
        and source.dtype == _HALF
        and node.outputs[0].dtype == ir.DataType.FLOAT
    )


def _round(node: ir.Node, value: ir.Value) -> None:
    if node.op_type in _EXACT:
        value.type = ir.TensorType(ir.DataType.FLOAT)
        return
    readers = list(value.uses())
    if node.op_type == "Cast":  # to float16: it stays
        node.metadata_props[_DONE] = "1"
        narrow = value
    else:
        value.type = ir.TensorType(ir.DataType.FLOAT)
        narrow = _follow(value, value, ir.AttrInt64("to", _HALF), _HALF)
    held = _follow(value, narrow, ir.AttrInt64("axis", 0), _HALF)
    wide = ir.DataType.FLOAT
    rounded = _follow(value, held, ir.AttrInt64("to", wide), wide)
    for use in readers:
        use.node.replace_input_with(use.idx, rounded)


def _follow(value: ir.Value, last: ir.Value, how: ir.Attr, dtype: ir.DataType) -> ir.Value:
    """Put a Cast or a Concat behind ``last``, named after the ``value`` that is rounded."""
    operator, what = ("Concat", "held") if how.name == "axis" else ("Cast", str(dtype).lower())
    step = ir.Node("", operator, [last], [how], name=f"{value.name}.{what}")
    step.metadata_props[_DONE] = "1"
    result = step.outputs[0]
    result.name, result.type = step.name, ir.TensorType(dtype)
    producer = last.producer()
    assert producer is not None
    assert producer.graph is not None
    producer.graph.insert_after(producer, step)
    return result
