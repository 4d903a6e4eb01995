"""The packed ring form of a stream: the numbers of the whole signal, step by step."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from architectures import UserNetwork, tcns, user_networks
from rewrite.networks import networks
from rewrite.streams import (
    check_against_eager,
    check_equal,
    noise,
    session_of,
    step_by_step,
    stream,
    window_of,
    with_signature,
    written,
    zeros,
)
from rewrite.test_last_step import answer, truth
from support import NO_SHRINKING, TINY_TCN, make_source, operators
from tcn_export.errors import UnsupportedModelError, UsageError
from tcn_export.graph import BATCH
from tcn_export.rewrite.base import Refused
from tcn_export.source.foreign import load_factory

BATCHES = st.integers(1, 3)


@pytest.mark.parametrize("name", ["tcn_har_every_step", "tcn_wide_every_step", "tcn_har"])
def test_reference_networks_answer_as_eager_and_as_by_concat(name, shared_bench, monkeypatch):
    monkeypatch.syspath_prepend(shared_bench)
    channels = 16 if "wide" in name else 9
    source = load_factory(f"user_models:{name}", (channels, 256))
    graph = window_of(source)
    check_against_eager(source, graph, noise(graph, 2, 700))  # the largest ring has 512 rows


@pytest.mark.slow
@settings(phases=NO_SHRINKING)
@given(tcns().filter(lambda config: config.head != "mean"), BATCHES, st.integers(0, 99))
def test_any_causal_network_answers_as_eager(tmp_path_factory, config, batch, seed):
    source = make_source(tmp_path_factory.mktemp("model") / "m.pt", config, seed=seed)
    graph = window_of(source)
    check_against_eager(source, graph, noise(graph, batch, 150, seed))


@pytest.mark.slow
@settings(phases=NO_SHRINKING)
@given(user_networks(heads=("every", "last", "only")), BATCHES)
def test_networks_as_users_write_them_answer_as_eager(network, batch):
    assume(set(network.arguments["strides"]) == {1} and network.arguments["padding"] != "none")
    source = load_factory(network.factory, network.input_shape, arguments=network.arguments)
    graph = window_of(source)
    try:
        stream(graph, "concat")
    except UnsupportedModelError:  # its last step looks ahead
        reject()
    x = noise(graph, batch, 60 + network.lookahead)
    check_against_eager(source, graph, x, ["ring"])


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(networks(), BATCHES)
def test_any_graph_that_both_forms_take_answers_as_the_window(graph, batch):
    graph = with_signature(graph)
    try:
        by_ring, by_concat = stream(graph, "ring"), stream(graph, "concat")
    except (Refused, UnsupportedModelError, UsageError):
        reject()
    (steps,) = graph.signature.inputs[0].shape[2:]
    x = noise(graph, batch + 8, steps)
    exact = truth(graph, x)
    own_error = float(np.abs(answer(graph, x) - exact).max())
    output = by_ring.signature.outputs[0]
    is_every = output.time_axis is not None and output.shape[output.time_axis] == 1
    assume(not is_every or output.delay < exact.shape[2])
    for form in (by_ring, by_concat):
        found = step_by_step(form, x)
        check_equal(found if is_every else found[..., -1], exact, own_error)


def test_a_network_that_looks_ahead_answers_later_and_the_same():
    arguments = {
        "channels": 3, "outputs": 2, "width": 4, "dilations": [1, 3, 2], "strides": [1, 1, 1],
        "kernel": 5, "head": "every", "skips": True, "groups": 1, "convolutions": 2,
        "padding": "same", "residual": True, "gate": False, "norm": True, "activation": "gelu",
    }  # fmt: skip
    network = UserNetwork(arguments, 60)
    source = load_factory(network.factory, network.input_shape, arguments=arguments)
    graph = window_of(source)
    assert stream(graph, "ring").signature.outputs[0].delay == network.lookahead > 0
    check_against_eager(source, graph, noise(graph, 2, 120))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    config = replace(TINY_TCN, widths=(8, 8, 12), head="every")
    model = tmp_path_factory.mktemp("model") / "m.pt"
    return stream(window_of(make_source(model, config)), "ring")


def test_values_of_equal_width_share_a_ring_and_one_read_and_write(tiny):
    states = {pair.input: pair for pair in tiny.signature.states}
    kept = {(pair.shape[1:], pair.dtype, pair.in_place) for pair in states.values()}
    assert kept == {
        ((BATCH, 3), "float32", False),
        ((BATCH, 8), "float32", True),
        ((), "int64", False),
    }
    for operator in ("Gather", "ScatterND", "Transpose"):
        assert operators(tiny).count(operator) == 2
    assert "Conv" not in operators(tiny)


def buffers(graph, batch):
    return {n: ort.OrtValue.ortvalue_from_numpy(a) for n, a in zeros(graph, batch).items()}


def test_a_ring_bound_in_place_gives_what_carried_arrays_give(tiny):
    """One buffer as input and output, for many turns of every ring."""
    x = noise(tiny, 2, 1100)
    pairs = tiny.signature.states
    assert any(pair.in_place for pair in pairs)
    here, there = buffers(tiny, 2), buffers(tiny, 2)
    there |= {pair.input: here[pair.input] for pair in pairs if pair.in_place}
    session, (spec,) = session_of(tiny), tiny.signature.outputs
    answers = []
    for step in range(x.shape[2]):
        binding = session.io_binding()
        binding.bind_cpu_input(tiny.signature.inputs[0].name, x[:, :, step : step + 1].copy())
        binding.bind_output(spec.name)
        for pair in pairs:
            binding.bind_ortvalue_input(pair.input, here[pair.input])
            binding.bind_ortvalue_output(pair.output, there[pair.input])
        session.run_with_iobinding(binding)
        answers.append(binding.get_outputs()[0].numpy().copy())
        here, there = there, here
    np.testing.assert_array_equal(np.concatenate(answers, axis=2), step_by_step(tiny, x))


HEADER = "network (float[batch,4,STEPS] x) => (float[batch,{},{}] y)"
ANY_OUTPUT = "network (float[batch,4,STEPS] x) => (float[batch,c,t] y)"
ONE_LAYER = """network (float[batch,4,STEPS] x) => (float[batch,1,STEPS] y)
<float[1,4,2] w = {1,2,3,4,5,6,7,8}>
{ y = Conv<kernel_shape = [2], pads = [2, 0], dilations = [2]>(x, w) }
"""


def test_a_ring_whose_new_rows_do_not_wait_for_the_old_ones_is_not_in_place():
    graph = stream(written(ONE_LAYER), "ring")
    assert [pair.in_place for pair in graph.signature.states] == [False, False]


BODIES = {
    "max pool, padded": ("y = MaxPool<kernel_shape = [3], pads = [2, 0]>(x)", 4),
    "max pool behind lookahead": (
        """a = AveragePool<kernel_shape = [3], pads = [1, 1], count_include_pad = 1>(x)
           y = MaxPool<kernel_shape = [3], pads = [1, 1]>(a)""", 4),
    "mean pool, dilated": (
        """a = Pad(x, pads_4)
           y = AveragePool<kernel_shape = [3], dilations = [2]>(a)""", 4),
    "mean pool behind lookahead": (
        """a = Conv<kernel_shape = [3], pads = [1, 1]>(x, lively, bias)
           y = AveragePool<kernel_shape = [3], pads = [1, 1], count_include_pad = 1>(a)""", 1),
    "padded with a number": (
        """a = Pad(x, pads, one)
           y = AveragePool<kernel_shape = [3]>(a)""", 4),
    "padded with a number, late": (
        """b = Slice(x, start, end, two)
           a = Pad(b, pads_3, one)
           y = AveragePool<kernel_shape = [3]>(a)""", 4),
    "a step later": (
        """a = Slice(x, start, end, two)
           b = Slice(x, zero, minus, two)
           y = Sub(a, b)""", 4),
    "channels apart": (
        """a, b = Split<axis = -2, num_outputs = 2>(x)
           c = Concat<axis = 1>(b, a)
           y = Softmax<axis = 1>(c)""", 4),
    "channels behind": (
        """a = Transpose<perm = [0, 2, 1]>(x)
           b = MatMul(a, m)
           c = LayerNormalization<axis = -1>(b, scale)
           y = Transpose<perm = [0, 2, 1]>(c)""", 4),
    "weights in front": ("y = MatMul(m, x)", 4),
    "mean over channels": (
        """a = ReduceMean<keepdims = 1>(x, axis_1)
           b = ReduceMean<keepdims = 0>(x, axis_1)
           c = Unsqueeze(b, axis_1)
           d = Mul(a, c)
           y = Sub(x, d)""", 4),
    "numbers per channel": (
        """a = Mul(x, column)
           y = PRelu(a, column)""", 4),
    "some channels": ("y = Slice(x, zero, two, axis_1)", 2),
    "channels added": ("y = Pad(x, wide)", 6),
    "shape of its own": (
        """a = Reshape(x, shape)
           b = Reshape(a, back)
           y = Add(b, x)""", 4),
}  # fmt: skip
CONSTANTS = """
<int64[6] pads = {0,0,2,0,0,0}, int64[6] pads_3 = {0,0,3,0,0,0},
 int64[6] pads_4 = {0,0,4,0,0,0},
 float one = {1.5}, float[1,4,3] lively = {1,2,3,4,5,6,7,8,9,1,2,3}, float[1] bias = {9},
 int64[1] start = {1}, int64[1] end = {100}, int64[1] two = {2}, int64[1] zero = {0},
 int64[1] minus = {39}, int64[1] axis_1 = {1}, int64[6] wide = {0,1,0,0,1,0},
 float[4,4] m = {1,2,3,4,5,6,7,8,-1,-2,3,-4,5,6,-7,8}, float[4] scale = {1,2,3,4},
 float[4,1] column = {1,2,3,-4}, int64[4] shape = {0,2,2,STEPS}, int64[3] back = {0,4,STEPS}>
"""


@pytest.mark.parametrize("case", BODIES)
def test_operators_compute_on_steps_what_they_compute_on_windows(case):
    body, channels = BODIES[case]
    graph = written(f"{HEADER.format(channels, 'steps')}{CONSTANTS}{{ {body} }}")
    x = noise(graph, 3, 40)
    exact = truth(graph, x)
    own_error = float(np.abs(answer(graph, x) - exact).max())
    for form in ("concat", "ring"):
        check_equal(step_by_step(stream(graph, form), x), exact, own_error)


@pytest.mark.parametrize(("width", "operator"), [(8, "Gemm"), (600, "Conv")])
def test_groups_become_one_product_where_that_is_small(width, operator):
    text = f"""network (float[batch,{width},STEPS] x) => (float[batch,{width},STEPS] y)
    <float[{width},1,3] w = {{{",".join(str(i % 7 - 3) for i in range(3 * width))}}}>
    {{ y = Conv<kernel_shape = [3], dilations = [4], pads = [8, 0], group = GROUPS>(x, w) }}
    """.replace("GROUPS", str(width))
    graph = written(text)
    x = noise(graph, 2, 40)
    ring = stream(graph, "ring")
    assert operator in operators(ring)
    exact = truth(graph, x)
    check_equal(step_by_step(ring, x), exact, float(np.abs(answer(graph, x) - exact).max()))


REFUSALS = {
    "y = ReduceMean<keepdims = 1>(x, two)": "`y` (ReduceMean) takes a mean over time",
    "y = LpPool<kernel_shape = [2], pads = [1, 0]>(x)": "`y` (LpPool) has no form",
    "a = Identity(cube) y = Conv<kernel_shape = [1]>(x, a)": "`y` (Conv) has weights that are",
    """a = Unsqueeze(x, axis_1)
       b = Conv<kernel_shape = [1, 1]>(a, square)
       y = Squeeze(b, axis_1)""": "`b` (Conv) has other axes than time",
    """a = Unsqueeze(x, axis_1)
       b = MaxPool<kernel_shape = [1, 2], pads = [0, 1, 0, 0]>(a)
       y = Squeeze(b, axis_1)""": "`a` has to be kept, and its steps are no vectors",
    "y = Pad(x, both)": "`y` (Pad) crops or pads other axes with time",
}  # fmt: skip
"""By what a network computes: why rings do not take it."""
MORE_CONSTANTS = """, float[1,4,1] cube = {1,2,3,4}, float[1,1,1,1] square = {2},
 int64[6] both = {0,1,2,0,1,0}>"""


@pytest.mark.parametrize("body", REFUSALS)
def test_what_rings_cannot_keep_is_refused_by_node(body):
    constants = CONSTANTS.replace(">", MORE_CONSTANTS)
    graph = written(f"{ANY_OUTPUT}{constants}{{ {body} }}")
    with pytest.raises(Refused, match=re.escape(REFUSALS[body])):
        stream(graph, "ring", mean_steps=0)


def test_a_hop_of_several_steps_is_refused():
    with pytest.raises(Refused, match="rings take one step at a time, and the hop is 4"):
        stream(written(ONE_LAYER), "ring", hop=4)
