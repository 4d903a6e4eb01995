"""A mean over many steps is taken in two stages, so that its error does not grow with them.

    ReduceMean(x, time)                                       for a * b steps
    ReduceMean(ReduceMean(Reshape(x, [.., a, b]), b), a)

Equal but for rounding. A runtime that adds one step after the other errs in proportion to
their number: over 9,000 equal steps ONNX Runtime errs 40 times as much as PyTorch, which adds
pairwise (Higham 1993, SIAM Journal on Scientific Computing 14:783-799). Two stages of about
sqrt(steps) each err as PyTorch does, and take as long as one.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from tcn_export.rewrite.base import NodeRewrite, Refused, add_initializer, constant

_FEW_STEPS = 256
"""Up to here the sum of one stage errs a few roundings only."""
_SHORTEST_STAGE = 8


class SplitMean(NodeRewrite):
    """Turn ``ReduceMean`` over a long time axis into two of them."""

    name = "split_mean"

    def is_candidate(self, node: ir.Node) -> bool:
        """Every mean over the last axis of (batch, channels, length), unless it is short."""
        if node.op_type != "ReduceMean" or node.inputs[0] is None:
            return False
        shape = node.inputs[0].shape
        if shape is None or len(shape) != 3 or len(node.inputs) < 2:
            return False
        steps = shape[2]
        return not (isinstance(steps, int) and steps <= _FEW_STEPS)

    def apply(self, node: ir.Node) -> None:
        """Put a first stage in front of ``node``, which stays as the second."""
        data = node.inputs[0]
        assert data is not None
        assert data.shape is not None
        assert node.graph is not None
        if constant(node.inputs[1], "axes").tolist() not in ([2], [-1]):
            raise Refused("it averages over another axis than time")
        steps = data.shape[2]
        if not isinstance(steps, int):
            raise Refused("the length is not known; its mean errs more the longer the signal")
        stages = _stages(steps)
        shape = add_initializer(
            node.graph, f"{node.name}.stages", np.array([0, 0, *stages], np.int64)
        )
        last = add_initializer(node.graph, f"{node.name}.last", np.array([3], np.int64))
        parts = ir.node("Reshape", [data, shape], name=f"{node.name}/Reshape")
        first = ir.node(
            "ReduceMean", [parts.outputs[0], last], {"keepdims": 0}, name=f"{node.name}/stage"
        )
        for new in (parts, first):
            new.outputs[0].name = new.name
            new.metadata_props.update(node.metadata_props)
        node.graph.insert_before(node, [parts, first])
        node.replace_input_with(0, first.outputs[0])


def _stages(steps: int) -> tuple[int, int]:
    """Two factors of ``steps``, as near to each other as they come."""
    for shorter in range(math.isqrt(steps), _SHORTEST_STAGE - 1, -1):
        if steps % shorter == 0:
            return steps // shorter, shorter
    raise Refused(f"{steps} steps do not divide into two stages of at least {_SHORTEST_STAGE}")
