"""What every operator does to time: a table from operators to rules.

The operators are those of the default ONNX domain that PyTorch time-series networks export to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from tcn_export.timeline import axes, windows
from tcn_export.timeline.passage import NotFollowed, Passage, Timed, Whole, where

Rule = Callable[[ir.Node, Mapping[int, Timed]], Passage | list[Passage]]

ELEMENT_WISE = frozenset({
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift",
    "Ceil", "Cos", "Cosh", "Div", "Equal", "Erf", "Exp", "Floor", "Greater",
    "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min",
    "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round",
    "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tan",
    "Tanh", "Where", "Xor",
})  # fmt: skip
"""Operators that broadcast their inputs and compute every element alone."""
FIRST_INPUT = frozenset({
    "BatchNormalization", "Cast", "CastLike", "Celu", "Clip", "Dropout", "Elu", "Gelu",
    "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish", "Selu", "Shrink", "Swish",
    "ThresholdedRelu",
})  # fmt: skip
"""Operators that compute every element of their first input alone."""
POOLS = frozenset({"AveragePool", "LpPool", "MaxPool"})
GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"})
REDUCTIONS = frozenset({
    "ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
})  # fmt: skip
SHAPE_ONLY = frozenset({"Shape", "Size"})
"""What they tell does not depend on the signal's values."""

_RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENT_WISE, axes.element_wise),
    **dict.fromkeys(FIRST_INPUT, axes.first_input),
    **dict.fromkeys(POOLS, windows.spatial),
    **dict.fromkeys(REDUCTIONS, axes.reduce),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization"), axes.over_axis),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), axes.layer_norm),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), axes.over_time_norm),
    **dict.fromkeys(GLOBAL_POOLS, windows.global_pool),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), axes.quantize),
    **dict.fromkeys(("Reshape", "Flatten"), axes.reshape),
    "Concat": windows.concat,
    "Conv": windows.spatial,
    "Einsum": axes.einsum,
    "Expand": axes.expand,
    "Gather": windows.gather,
    "Gemm": axes.gemm,
    "MatMul": axes.matmul,
    "Pad": windows.pad,
    "Slice": windows.slice_,
    "Split": windows.split,
    "Squeeze": axes.squeeze,
    "Transpose": axes.transpose,
    "Unsqueeze": axes.unsqueeze,
}  # fmt: skip
_WHY = {
    "LSTM": "it is recurrent: every step depends on all before it",
    "GRU": "it is recurrent: every step depends on all before it",
    "RNN": "it is recurrent: every step depends on all before it",
    "CumSum": "every step depends on all before it",
    "Attention": "it compares every step with all others",
    "ConvTranspose": "it makes several steps of one",
    "Resize": "it makes several steps of one, or one of several",
    "Upsample": "it makes several steps of one",
}
"""In the words of the user, why there is no rule."""


def passages(node: ir.Node, timed: Mapping[int, Timed]) -> list[Passage]:
    """What each output of a node has of the time axis.

    Args:
        node: The node.
        timed: Its inputs with a time axis, by position; at least one.

    Returns:
        One passage per output. A node that cannot be followed reads everything, says why, and
        ends time.
    """
    rule = _RULES.get(node.op_type, _unknown) if node.domain in ("", "ai.onnx") else _unknown
    try:
        found = rule(node, timed)
    except NotFollowed as refusal:
        everything = dict.fromkeys(timed, Whole())
        lost = Passage(None, everything, refused=f"{where(node)}: {refusal}")
        return [lost] * len(node.outputs)
    return found if isinstance(found, list) else [found] * len(node.outputs)


def _unknown(node: ir.Node, _: Mapping[int, Timed]) -> Passage:
    raise NotFollowed(_WHY.get(node.op_type, "nothing is known of what it does to time"))
