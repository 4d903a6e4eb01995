"""A mean over many steps is taken in two stages, so that its error does not grow with them.

    ReduceMean(x, time)                                    for n steps
    ReduceMean(ReduceMean(Reshape(x, [.., a, b]), b), a)   where n = a * b
    ReduceSum(ReduceSum(Reshape(Pad(x), [.., a, b]), b) / n, a)         otherwise

Equal but for rounding; the zeros of the Pad add nothing. A runtime that adds one step after
the other errs in proportion to their number: over 9,000 equal steps ONNX Runtime errs 40 times
as much as PyTorch, which adds pairwise (Higham 1993, SIAM Journal on Scientific Computing
14:783-799). Two stages of about sqrt(n) steps err as PyTorch does, and take as long as one.
(ONNX ReduceMean and ReduceSum of operator version 18 and 13, with axes as an input.)
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tcn_export.rewrite.base import NodeRewrite, Refused, add_initializer, constant

_FEW_STEPS = 256
"""Up to here the sum of one stage errs a few roundings only."""
_INNER_STEPS = 64
"""Of a length that is not known: long enough to shorten it, short enough to err little."""
_DONE = "tcn_export.split_mean"


class SplitMean(NodeRewrite):
    """Turn ``ReduceMean`` over a long time axis into two stages."""

    name = "split_mean"

    def is_candidate(self, node: ir.Node) -> bool:
        """Every mean of (batch, channels, length), unless it is short or a second stage."""
        if (
            node.op_type != "ReduceMean"
            or node.inputs[0] is None
            or _DONE in node.metadata_props
        ):
            return False
        shape = node.inputs[0].shape
        if shape is None or len(shape) != 3:
            return False
        steps = shape[2]
        return not (isinstance(steps, int) and steps <= _FEW_STEPS)

    def apply(self, node: ir.Node) -> None:
        """Put a first stage in front of ``node``, which stays as the second."""
        data = node.inputs[0]
        assert data is not None
        assert data.shape is not None
        if len(node.inputs) < 2:
            raise Refused("its axes are an attribute, as before operator version 18")
        if constant(node.inputs[1], "axes").tolist() not in ([2], [-1]):
            raise Refused("it averages over another axis than time")
        steps, build = data.shape[2], _Builder(node)
        if not isinstance(steps, int):
            stage = _share_of_any_length(build, data)
            node.op_type = "ReduceSum"
        elif math.prod(stages(steps)) == steps:
            stage = _mean_of_rows(build, data, *stages(steps))
        else:
            stage = _share_of_rows(build, data, steps, *stages(steps))
            node.op_type = "ReduceSum"
        node.replace_input_with(0, stage)
        node.metadata_props[_DONE] = "1"


def stages(steps: int) -> tuple[int, int]:
    """Steps of the outer and the inner stage, about equal; together at least ``steps``."""
    root = math.isqrt(steps)
    for inner in range(root, root // 2, -1):
        if steps % inner == 0:
            return steps // inner, inner
    inner = root + 1
    return -(-steps // inner), inner


def _mean_of_rows(build: _Builder, data: ir.Value, outer: int, inner: int) -> ir.Value:
    rows = build("Reshape", [data, build.constant("rows", [0, 0, outer, inner])])
    return build("ReduceMean", [rows, build.constant("last", [3])], keepdims=0)


def _share_of_rows(
    build: _Builder, data: ir.Value, steps: int, outer: int, inner: int
) -> ir.Value:
    """What each row adds to the mean."""
    pads = build.constant("pads", [0, 0, 0, 0, 0, outer * inner - steps])
    shape = build.constant("rows", [0, 0, outer, inner])
    rows = build("Reshape", [build("Pad", [data, pads]), shape])
    sums = build("ReduceSum", [rows, build.constant("last", [3])], keepdims=0)
    return build("Div", [sums, build.constant("steps", np.array(steps, np.float32))])


def _share_of_any_length(build: _Builder, data: ir.Value) -> ir.Value:
    """What each row adds to the mean, where the number of steps is known at run time only."""
    steps = build("Shape", [data], start=2, end=3)
    padding = build("Mod", [build("Neg", [steps]), build.constant("inner", [_INNER_STEPS])])
    pads = build("Concat", [build.constant("none", [0, 0, 0, 0, 0]), padding], axis=0)
    shape = build.constant("rows", [0, 0, -1, _INNER_STEPS])
    rows = build("Reshape", [build("Pad", [data, pads]), shape])
    sums = build("ReduceSum", [rows, build.constant("last", [3])], keepdims=0)
    return build("Div", [sums, build("Cast", [steps], to=ir.DataType.FLOAT)])


class _Builder:
    """Puts nodes in front of another one, named after it."""

    def __init__(self, node: ir.Node) -> None:
        assert node.graph is not None
        self.node, self.graph, self.count = node, node.graph, 0

    def constant(self, what: str, content: list[int] | NDArray[np.float32]) -> ir.Value:
        array = np.array(content, np.int64) if isinstance(content, list) else content
        return add_initializer(self.graph, f"{self.node.name}.{what}", array)

    def __call__(
        self, operator: str, inputs: list[ir.Value], **attributes: int | ir.DataType
    ) -> ir.Value:
        self.count += 1
        name = f"{self.node.name}/{operator}_{self.count}"
        new = ir.node(operator, inputs, dict(attributes), name=name)
        new.outputs[0].name = name
        new.metadata_props.update(self.node.metadata_props)
        self.graph.insert_before(self.node, new)
        return new.outputs[0]
