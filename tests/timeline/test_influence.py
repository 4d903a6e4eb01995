"""Influence is demand, asked from the other end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from tcn_export.timeline.demand import demand
from tcn_export.timeline.influence import influence
from timeline.measured import analyzed
from timeline.test_analysis import CAUSAL, LENGTH, W, chains, graph

PADS = "int64[6] pads = {0, 0, 3, 0, 0, 0}"


def both_ways(made):
    """Which steps of the output each step of the signal moves; and what each step demands."""
    timeline, _ = analyzed(made)
    (signal,), (output,) = made.model.graph.inputs, made.model.graph.outputs
    moved = influence(made.model, timeline, {signal: np.eye(LENGTH, dtype=bool)})
    steps = moved[output].shape[1]
    demanded = np.zeros((LENGTH, steps), bool)
    for step in range(steps):
        needed = demand(made.model, timeline, {output: np.array([step])})
        demanded[needed.get(signal, []), step] = True
    return moved[output], demanded


@given(chains())
def test_a_step_moves_what_demands_it(body):
    moved, demanded = both_ways(graph(body, f"{W}, {PADS}"))
    np.testing.assert_array_equal(moved, demanded)


@pytest.mark.parametrize(
    "body",
    [
        CAUSAL + "y = Gather<axis = 2>(a, last)",
        CAUSAL + "y = Gather<axis = 2>(a, some)",
        CAUSAL + "y = ReduceMean<keepdims = 0>(a, two)",
        CAUSAL + "b = ReduceMean<keepdims = 1>(a, two)\n c = Sigmoid(b)\n y = Mul(a, c)",
        "y = Softmax<axis = 2>(x)",
    ],
)
def test_also_where_time_ends_or_cannot_be_followed(body):
    moved, demanded = both_ways(graph(body, W))
    np.testing.assert_array_equal(moved, demanded)
    assert moved.any()
