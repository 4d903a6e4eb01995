"""Graphs that compute the demanded steps alone: the same numbers, and nothing else."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from rewrite.networks import CHANNELS, Writer, finished, head, networks
from rewrite.onnx_text import parse
from support import operators
from tcn_export.graph import Graph
from tcn_export.parity.tolerance import float32_limit
from tcn_export.rewrite.base import run
from tcn_export.rewrite.last_step import LastStep
from tcn_export.source.onnx_kernels import KERNELS
from tcn_export.targets.session import session_options
from tcn_export.timeline.analysis import analyze
from tcn_export.timeline.demand import demand, length_of

REWRITE = LastStep({"x": 2})


def answer(graph: Graph, x: np.ndarray) -> np.ndarray:
    model = ir.to_proto(graph.model).SerializeToString()
    return ort.InferenceSession(model, session_options(1)).run(None, {"x": x})[0]


def truth(graph: Graph, x: np.ndarray) -> np.ndarray:
    """What a graph gives in float64."""
    proto = ir.to_proto(graph.model)
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            double = numpy_helper.from_array(array.astype(np.float64), tensor.name)
            tensor.CopyFrom(double)
    return ReferenceEvaluator(proto, new_ops=KERNELS).run(None, {"x": x.astype(np.float64)})[0]


def check_equal(before: Graph, after: Graph, batch: int = 2) -> None:
    """As the gate holds float32; what the graph itself errs is drawn from several windows."""
    (value,) = before.model.graph.inputs
    shape = (batch + 8, *(int(str(n)) for n in value.shape[1:]))
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    exact, expected, found = truth(before, x), answer(before, x), answer(after, x)
    assert found.shape == exact.shape
    own_error = float(np.abs(expected - exact).max())
    limit = float32_limit(own_error, float(np.abs(exact).max()))
    assert np.abs(found - exact).max() <= limit
    alone = answer(after, x[:batch])
    assert alone.shape == found[:batch].shape
    assert np.abs(alone - exact[:batch]).max() <= limit


def multiplications(graph: Graph) -> int:
    """Multiply-accumulates of all convolutions, for one window."""
    total = 0
    for node in graph.model.graph:
        if node.op_type == "Conv":
            steps = node.outputs[0].shape[2]
            total += int(str(steps)) * prod(int(str(n)) for n in node.inputs[1].shape)
    return total


def demanded_multiplications(graph: Graph, signal: str = "x") -> int | None:
    """Those that the outputs need: per demanded step, all taps that are not always padding.

    None where a convolution reads nothing but padding: that one stays as it is.
    """
    timeline = analyze(graph.model, {signal: 2})
    needed, total = demand(graph.model, timeline), 0
    for node in graph.model.graph:
        if node.op_type == "Conv" and node.outputs[0] in needed:
            reading = timeline.passages[node][0].reads[0]
            steps = needed[node.outputs[0]]
            read = reading.stride * steps[:, None] + np.array(reading.offsets)
            inside = (read >= 0) & (read < length_of(timeline, node.inputs[0]))
            used = np.flatnonzero(inside.any(axis=0))
            if not len(used):
                return None
            taps = np.ptp(used) + 1
            channels = prod(int(str(n)) for n in node.inputs[1].shape[:2])
            total += len(steps) * int(taps) * channels
    return total


@given(networks(), st.integers(1, 4))
def test_any_network_answers_the_same_and_computes_what_is_demanded(graph, batch):
    pruned = run(REWRITE, graph)
    check_equal(graph, pruned, batch)
    if pruned.history[-1].modified:
        kept = {refusal.node for refusal in pruned.history[-1].refusals}
        if not kept and (demanded := demanded_multiplications(graph)) is not None:
            assert multiplications(pruned) == demanded
    else:
        assert pruned.history[-1].refusals, "what saves nothing says why"
    again = run(REWRITE, pruned)
    assert again.history[-1].modified == 0
    assert operators(again) == operators(pruned)


def stack(dilations, kernel=3, length=64, kind="last", front=None) -> Graph:
    writer, x = Writer(0), "x"
    for dilation in dilations:
        reach = (kernel - 1) * dilation
        pad = reach if front is None else front * dilation
        y = writer.convolution(x, kernel, dilation, pad, reach - pad)
        x = writer.add("Relu", writer.add("Add", writer.add("Relu", y), x))
    return finished(writer, head(writer, x, kind, length), length)


def test_a_dilated_stack_read_at_its_last_step_becomes_a_strided_one():
    graph = stack([1, 2, 4, 8])
    pruned = run(REWRITE, graph)
    check_equal(graph, pruned)
    convolutions = [n for n in pruned.model.graph if n.op_type == "Conv"]
    assert [n.attributes.get_ints("dilations") for n in convolutions] == [(1,)] * 4
    assert [n.attributes.get_ints("strides") for n in convolutions] == [(2,)] * 3 + [(1,)]
    assert [n.outputs[0].shape[2] for n in convolutions] == [15, 7, 3, 1]
    assert set(operators(pruned)) == {"Slice", "Conv", "Relu", "Add", "Squeeze"}


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(1, 4), st.integers(1, 70)
)
def test_each_layer_of_a_stack_computes_the_steps_of_the_book(dilations, kernel, length):
    """Worked out by hand here: what a step needs of the layer before it, and on itself."""
    steps, expected = {length - 1}, []
    for dilation in reversed(dilations):
        expected.insert(0, len(steps))
        taps = {t - i * dilation for t in steps for i in range(kernel)}
        steps = {t for t in taps | steps if t >= 0}
    graph = stack(dilations, kernel, length)
    pruned = run(REWRITE, graph)
    convolutions = [n for n in pruned.model.graph if n.op_type == "Conv"]
    assert [n.outputs[0].shape[2] for n in convolutions] == expected


def test_uneven_steps_are_gathered_tap_by_tap():
    graph = stack([3, 7, 5])
    pruned = run(REWRITE, graph)
    check_equal(graph, pruned)
    assert multiplications(pruned) == demanded_multiplications(graph)
    assert "Gather" in operators(pruned)[:-1]


@pytest.mark.parametrize("length", [3, 9, 30])
def test_a_window_shorter_than_the_receptive_field_keeps_its_padding(length):
    graph = stack([1, 2, 4, 8], length=length)
    pruned = run(REWRITE, graph)
    check_equal(graph, pruned)
    assert multiplications(pruned) == demanded_multiplications(graph)


def test_taps_that_only_ever_read_padding_are_cut_off():
    graph = stack([1, 64], length=32)
    pruned = run(REWRITE, graph)
    check_equal(graph, pruned)
    last = [n for n in pruned.model.graph if n.op_type == "Conv"][-1]
    assert last.inputs[1].shape[2] == 1


@pytest.mark.parametrize("kind", ["fixed", "few", "strided"])
def test_other_subsets_of_the_steps_are_read_as_well(kind):
    graph = stack([1, 2, 4], kind=kind)
    pruned = run(REWRITE, graph)
    check_equal(graph, pruned)
    assert multiplications(pruned) < multiplications(graph)


def test_both_sides_of_padding_stay():
    graph = stack([1, 2, 4], length=12, front=1)
    pruned = run(REWRITE, graph)
    check_equal(graph, pruned)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("mean", "reads ReduceMean over time: nothing is saved"),
        ("every", "every step of `identity_12` is an output: nothing is saved"),
    ],
)
def test_where_nothing_is_saved_it_says_so(kind, reason):
    graph = stack([1, 2, 4], kind=kind)
    pruned = run(REWRITE, graph)
    step = pruned.history[-1]
    assert step.modified == 0
    assert [refusal.reason for refusal in step.refusals] == [reason]
    assert operators(pruned) == operators(graph)


def test_skips_to_the_head_and_constants_per_step():
    writer = Writer(0)
    offsets = np.random.default_rng(0).standard_normal((1, CHANNELS, 40)).astype(np.float32)
    a = writer.add("Add", writer.convolution("x", 3, 2, 4, 0), writer.constant(offsets))
    b = writer.convolution(writer.add("Relu", a), 3, 4, 8, 0)
    skip = writer.add("Concat", a, b, axis=1)
    graph = finished(writer, head(writer, skip, "last", 40), 40)
    pruned = run(REWRITE, graph)
    check_equal(graph, pruned)
    assert multiplications(pruned) == demanded_multiplications(graph)


def test_an_operator_that_mixes_the_steps_is_named():
    writer = Writer(0)
    a = writer.convolution("x", 3, 2, 4, 0)
    b = writer.add("Softmax", a, axis=2)
    c = writer.convolution(b, 3, 1, 2, 0)
    graph = finished(writer, head(writer, c, "last", 40), 40)
    pruned = run(REWRITE, graph)
    (refusal,) = pruned.history[-1].refusals
    assert (refusal.node, pruned.history[-1].modified) == (b, 0)
    assert "compares every step with all others" in refusal.reason


def test_a_symbolic_length_is_refused():
    graph = stack([1, 2])
    (value,) = graph.model.graph.inputs
    value.shape = ir.Shape(["batch", CHANNELS, "length"])
    (refusal,) = run(REWRITE, graph).history[-1].refusals
    assert "is symbolic" in refusal.reason


def test_a_value_that_is_also_an_output_keeps_its_steps():
    writer = Writer(0)
    a = writer.convolution("x", 3, 2, 4, 0)
    b = writer.convolution(a, 3, 4, 8, 0)
    graph = finished(writer, head(writer, b, "last", 40), 40)
    (value,) = [n.outputs[0] for n in graph.model.graph if n.outputs[0].name == a]
    graph.model.graph.outputs.append(value)
    pruned = run(REWRITE, graph)
    assert [v.shape for v in pruned.model.graph.outputs] == [
        v.shape for v in graph.model.graph.outputs
    ]
    check_equal(graph, pruned)


@pytest.mark.parametrize(
    ("kernel", "dilation", "front", "behind", "kind", "length"),
    [
        (2, 7, 3, 4, "fixed", 5),  # the step that is read sees padding alone
        (2, 16, 8, 8, "few", 5),  # every step does
        (1, 1, 0, 0, "strided", 17),  # a stride over all steps leaves holes behind
    ],
)
def test_networks_that_once_went_wrong(kernel, dilation, front, behind, kind, length):
    writer = Writer(0)
    x = writer.convolution("x", kernel, dilation, front, behind)
    x = writer.convolution(writer.add("Relu", x), 2, 1, 1, 0)
    graph = finished(writer, head(writer, writer.add("Relu", x), kind, length), length)
    pruned = run(REWRITE, graph)
    check_equal(graph, pruned)
    assert run(REWRITE, pruned).history[-1].modified == 0


def test_uneven_steps_behind_a_crop_are_gathered():
    writer = Writer(0)
    x = writer.convolution("x", 2, 1, 0, 0, stride=3)
    bounds = [writer.integers(n) for n in (1, 2**62, 2)]
    graph = finished(writer, writer.add("Slice", x, *bounds), 40)
    pruned = run(REWRITE, graph)
    check_equal(graph, pruned)
    assert run(REWRITE, pruned).history[-1].modified == 0


BRANCHES = """
g (float[n,4,40] x) => (float[n,4] y)
<float[4,4,3] w = {WEIGHT}, int64 last = {-1}, float limit = {0.0}>
{
    a = Conv<pads = [2, 0]>(x, w)
    b = Conv<pads = [4, 0], dilations = [2]>(a, w)
    total = ReduceSum<keepdims = 0>(x)
    is_large = Greater(total, limit)
    c = If(is_large) <then_branch = t () => (float[n,4,40] p) { p = Relu(b) },
                      else_branch = e () => (float[n,4,40] q) { q = Neg(b) }>
    d = Add(c, a)
    y = Gather<axis = 2>(d, last)
}"""


def test_what_branches_read_is_computed_in_full_and_named():
    weight = np.random.default_rng(0).standard_normal(48).round(3).tolist()
    text = BRANCHES.replace("{WEIGHT}", "{" + ", ".join(map(str, weight)) + "}")
    graph = parse(text)
    pruned = run(REWRITE, graph)
    check_equal(graph, pruned)
    reasons = {r.node: r.reason for r in pruned.history[-1].refusals}
    assert reasons["c"] == "`c` (If): its branches, or its body, read the signal"
    assert [n.outputs[0].shape[2] for n in pruned.model.graph if n.op_type == "Conv"] == [
        40,
        40,
    ]
