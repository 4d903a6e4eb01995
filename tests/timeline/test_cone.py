"""The drawing of the cone, character by character."""

from __future__ import annotations

import pytest

from tcn_export.capture import capture
from tcn_export.source.foreign import load_factory
from tcn_export.timeline.analysis import analyze
from tcn_export.timeline.cone import COLUMNS, MOST_ROWS, draw_cone
from user_networks import PLAIN


def cone(length=40, factory="network", **changes):
    arguments = {**(PLAIN if factory == "network" else {}), **changes}
    source = load_factory(f"user_networks:{factory}", (2, length), arguments=arguments)
    model = capture(source, length, 20).model
    timeline = analyze(model, {"signal": 2})
    return draw_cone(model, timeline, model.graph.inputs[0], model.graph.outputs[0])


@pytest.mark.parametrize("head", ["last", "only", "every"])
def test_dilations_are_seen_where_a_column_is_a_step(head):
    found = cone(head=head)
    assert [row.drawn for row in found.rows] == [
        "███████████████",
        "··█·█·█·█·█·█·█",
        "······█···█···█",
        "··············█",
    ]
    assert [row.layer for row in found.rows] == [
        "signal", *(f"blocks.{i}.convs.0.conv" for i in range(3)),
    ]  # fmt: skip
    assert [(r.taps, r.spacing, r.stride, r.needed) for r in found.rows] == [
        (1, 1, 1, 15), (3, 1, 1, 7), (3, 2, 1, 3), (3, 4, 1, 1),
    ]  # fmt: skip
    assert (found.first, found.per_column, found.left_out) == (-14, 1, 0)


def test_a_stride_leaves_columns_without_a_step():
    found = cone(dilations=[1, 1], strides=[2, 2], head="mean", residual=False)
    assert [row.drawn for row in found.rows] == ["███████", "· █ █ █", "  ·   █"]
    assert [row.stride for row in found.rows] == [1, 2, 2]


def test_what_lies_ahead_is_drawn_for_a_step_whose_future_is_in_the_window():
    found = cone(factory="leaking", head="every")
    assert found.rows[0].drawn == "████████████████"
    assert found.first == -14
    found = cone(padding="same", head="every")
    assert found.rows[-1].drawn == "·······█·······"
    assert found.first == -7


def test_a_step_in_the_middle_is_drawn_where_it_is_read():
    found = cone(head="step", padding="same")
    assert (found.first, len(found.rows[0].drawn)) == (-7, 15)


def test_long_windows_share_columns():
    found = cone(length=600, dilations=[1, 16, 64, 128], strides=[1, 1, 1, 1], head="last")
    assert found.per_column == 10
    assert all(len(row.drawn) <= COLUMNS for row in found.rows)
    assert found.rows[-1].drawn == "·" * 41 + "▒"
    assert found.rows[2].drawn.count("▒") > 4


def test_many_layers_leave_the_middle_out():
    found = cone(length=150, dilations=[1] * 60, strides=[1] * 60, head="last", norm=False)
    assert (len(found.rows), found.left_out) == (MOST_ROWS, 61 - MOST_ROWS)
    assert found.rows[0].layer == "signal"
    assert found.rows[-1].layer == "blocks.59.convs.0.conv"
