"""Networks as users write them: measured as the book says, rewritten exactly."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from architectures import UserNetwork, user_networks
from rewrite.test_last_step import demanded_multiplications, multiplications
from support import NO_SHRINKING
from tcn_export.capture import capture
from tcn_export.measuring import measure_dependence
from tcn_export.parity.oracle import Oracle, one_thread
from tcn_export.parity.tolerance import float32_limit
from tcn_export.rewrite.base import run, run_plan
from tcn_export.rewrite.last_step import LastStep
from tcn_export.rewrite.plans import LAYOUTS, PLANS
from tcn_export.source.foreign import load_factory
from tcn_export.targets.onnxruntime import session_options

WINDOWS = 12


@settings(phases=NO_SHRINKING)
@given(user_networks(), st.integers(1, 4), st.sampled_from(sorted(LAYOUTS)))
def test_any_network_is_measured_as_the_book_says_and_rewritten_exactly(
    network, batch, layout
):
    source = load_factory(network.factory, network.input_shape, arguments=network.arguments)
    captured = capture(source, network.length, 20)
    check_dependence(network, measure_dependence(source, captured))
    simplified = run_plan(PLANS["onnx"], captured)
    pruned = run(LastStep({simplified.signature.inputs[0].name: 2}), simplified)
    check_demand(simplified, pruned)
    for rewrite in LAYOUTS[layout]:
        pruned = run(rewrite, pruned)
    check_answers(source, pruned, batch, network.input_shape)


def check_dependence(network, found):
    """Of the book, of the graph, and as measured."""
    assert found.refusals == ()
    assert found.reach.receptive_field == network.receptive_field
    assert found.reach.lookahead == network.lookahead
    assert found.causal == (network.lookahead == 0) == (not found.looks_ahead)
    if network.arguments["activation"] != "relu":  # whose units may be dead
        assert found.measured.silent == 0
        assert (found.measured.lookback is None) == (found.needed == 0)
        if network.arguments["head"] == "every":
            check_seen(found, network.length)


def check_seen(found, length):
    """As much was seen as the window can show."""
    reach, seen = found.reach, found.measured
    places = np.arange(0, length, reach.stride)
    back = [p - s for p in places for s in (p + o for o in reach.offsets()) if 0 <= s < length]
    assert (seen.lookback, seen.lookahead) == (max(back), -min(back))


def check_demand(before, after):
    """No step is computed that no output needs."""
    last_step = after.history[-1]
    demanded = demanded_multiplications(before, before.signature.inputs[0].name)
    if last_step.modified and not last_step.refusals and demanded is not None:
        assert multiplications(after) == demanded


def check_answers(source, graph, batch, shape):
    """As the gate holds float32; what eager float32 errs is drawn from several windows."""
    (signal,), (output,) = source.signature.inputs, source.signature.outputs
    x = np.random.default_rng(0).standard_normal((WINDOWS, *shape)).astype(np.float32)
    with one_thread():
        eager = Oracle(source.module, source.signature).run({signal.name: x})
    exact = eager.float64[output.name]
    limit = float32_limit(eager.eager_error(output.name), float(np.abs(exact).max()))
    model = ir.to_proto(graph.model).SerializeToString()
    session = ort.InferenceSession(model, session_options(1))
    for part in (x, x[:batch]):
        (answer,) = session.run(None, {signal.name: part})
        assert answer.shape == exact[: len(part)].shape
        assert np.abs(answer - exact[: len(part)]).max() <= limit


UNEVEN = {
    "seed": 68, "channels": 1, "outputs": 2, "width": 6, "dilations": [1, 1, 1],
    "strides": [3, 3, 3], "kernel": 5, "head": "only", "skips": False, "groups": 3,
    "convolutions": 1, "padding": "crop", "residual": False, "gate": True, "norm": False,
    "activation": "tanh",
}  # fmt: skip


PADDED = {
    "seed": 54, "channels": 3, "outputs": 1, "width": 4, "dilations": [29, 29, 29],
    "strides": [1, 1, 2], "kernel": 8, "head": "step", "skips": False, "groups": 2,
    "convolutions": 2, "padding": "same", "residual": True, "gate": False, "norm": True,
    "activation": "tanh",
}  # fmt: skip
"""Its convolutions miss a window of four steps, and only its residuals read it."""


@pytest.mark.parametrize("network", [UserNetwork(UNEVEN, 68), UserNetwork(PADDED, 4)])
def test_networks_that_once_went_wrong(network):
    source = load_factory(network.factory, network.input_shape, arguments=network.arguments)
    found = measure_dependence(source, capture(source, network.length, 20))
    check_dependence(network, found)
