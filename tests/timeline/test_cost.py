"""Multiply-accumulates, as one counts them by hand."""

from __future__ import annotations

import pytest

from tcn_export.capture import capture
from tcn_export.source.foreign import load_factory
from tcn_export.timeline.cost import multiplications


@pytest.mark.parametrize(
    ("factory", "arguments", "cost"),
    [
        ("layer", {"layer": "Conv1d", "sizes": [2, 8, 3], "padding": 1}, 8 * 2 * 3 * 40),
        ("layer", {"layer": "Conv1d", "sizes": [2, 8, 4], "stride": 4}, 8 * 2 * 4 * 10),
        ("layer", {"layer": "Conv1d", "sizes": [2, 8, 1], "groups": 2}, 8 * 40),
        ("layer", {"layer": "ConvTranspose1d", "sizes": [2, 8, 4], "stride": 2},
         2 * 8 * 4 * 40),
        ("layer", {"layer": "LSTM", "sizes": [2, 8], "batch_first": True},
         4 * 8 * (2 + 8) * 40),
        ("layer", {"layer": "Linear", "sizes": [2, 50]}, 2 * 50 * 40),
        ("Flattened", {}, 2 * 40 * 3 * 40),
        ("Shared", {}, 2 * 8 * 5 * 40 + 16 * 3),
    ],
)  # fmt: skip
def test_weights_count_as_often_as_they_are_used(factory, arguments, cost):
    source = load_factory(
        f"timeline.mistaken_networks:{factory}", (2, 40), arguments=arguments
    )
    model = capture(source, 40, 20).model
    elements = sum(1 for _ in model.graph) * 2 * 50 * 40  # more than what is left costs
    assert cost <= multiplications(model) < cost + elements
    assert multiplications(model) < 2.5 * cost
