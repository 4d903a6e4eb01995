"""What was measured of one layout is known of every value of another."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewrite.networks import networks
from rewrite.test_last_step import REWRITE
from tcn_export.rewrite.base import run, run_plan
from tcn_export.rewrite.handed_on import carried
from tcn_export.rewrite.plans import LAYOUTS
from tcn_export.targets.intermediates import largest_values


def computed(graph):
    """Names of what the nodes give, but for shapes and indices."""
    return {
        value.name
        for node in graph.model.graph
        for value in node.outputs
        if value.dtype in (None, ir.DataType.FLOAT)
    }


def measured(graph):
    shape = [4 if not isinstance(n, int) else n for n in graph.model.graph.inputs[0].shape]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return largest_values(graph, [{"x": x}])


@given(networks(), st.sampled_from(sorted(LAYOUTS)))
def test_any_layout_is_known_from_another(graph, name):
    first = run(REWRITE, graph)
    laid_out = run_plan(LAYOUTS[name], first)
    known = carried(measured(first), laid_out.model)
    assert computed(laid_out) <= known.keys()
    for value, largest in measured(laid_out).items():
        # Filled channels hold what an activation makes of zeros: at most 1.
        assert largest <= max(1.001 * known[value], 1.0), value


RELU = """<ir_version: 10, opset_import: ["" : 20]>
g (float[n,4] x) => (float[n,4] y) { y = Relu(x) }"""


@pytest.mark.parametrize("known", [{}, {"x": 1.0}])
def test_what_nobody_measured_stays_unknown(known):
    assert carried(known, ir.from_onnx_text(RELU)) == known
