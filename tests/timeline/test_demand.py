"""What is demanded of a stack read at its last step, against what the network computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from support import TINY_TCN, make_source
from tcn_export.capture import capture
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.plans import PLANS
from tcn_export.timeline.analysis import analyze
from tcn_export.timeline.demand import demand
from timeline.measured import matters

LENGTH = 40


def captured(tmp_path, head, **changes):
    config = replace(TINY_TCN, head=head, **changes)
    graph = capture(make_source(tmp_path / "model.pt", config), LENGTH, 20)
    return run_plan(PLANS["onnx"], graph)


@pytest.mark.parametrize("head", ["last", "every", "mean"])
def test_of_the_signal_what_matters_is_demanded(head, tmp_path):
    graph = captured(tmp_path, head)
    graph.model.graph.inputs[0].name = "x"
    timeline = analyze(graph.model, {"x": 2})
    needed = demand(graph.model, timeline)[graph.model.graph.inputs[0]]
    changed = matters(graph)
    really = np.flatnonzero(changed.reshape(LENGTH, -1).any(axis=1))
    assert really.tolist() == needed.tolist()


def test_of_a_stack_read_at_its_last_step_each_level_demands_its_own_steps(tmp_path):
    graph = captured(tmp_path, "last")
    timeline = analyze(graph.model, {"signal": 2})
    needed = demand(graph.model, timeline)
    convolutions = [n for n in graph.model.graph if n.op_type == "Conv"]
    dilated = [n for n in convolutions if n.attributes.get_ints("dilations", [1]) != [1]]
    for node in dilated:
        (dilation,) = node.attributes.get_ints("dilations")
        spacing = np.diff(needed[node.inputs[0]])
        assert (spacing % dilation == 0).all()
    computed = sum(len(needed[node.outputs[0]]) for node in convolutions)
    assert computed < len(convolutions) * LENGTH / 3
