"""The analysis against what really matters, operator by operator, and for random chains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewrite.onnx_text import parse
from support import TINY_LENGTH, TINY_TCN, make_source
from tcn_export.capture import capture
from tcn_export.graph import MODULE_KEY, Graph
from tcn_export.timeline.analysis import analyze
from tcn_export.timeline.demand import demand
from timeline.measured import analyzed, matters_per_step, predicted

W = "float[4,4,3] w = {" + ", ".join(f"0.{i}" for i in range(11, 59)) + "}"
FOLLOWED = {
    "a dilated convolution that pads the past": (
        "y = Conv<kernel_shape = [3], dilations = [2], pads = [4, 0]>(x, w)", W, 4, 0, 2),
    "a convolution that pads both sides": (
        "y = Conv<kernel_shape = [3], pads = [1, 1]>(x, w)", W, 1, 1, 0),
    "a strided convolution": (
        "y = Conv<kernel_shape = [3], strides = [2], pads = [1, 1]>(x, w)", W, 1, 1, 0),
    "SAME_UPPER": (
        'y = Conv<kernel_shape = [3], strides = [2], auto_pad = "SAME_UPPER">(x, w)',
        W, 0, 2, 0),
    "a crop behind the future": (
        "a = Conv<kernel_shape = [3], pads = [2, 2]>(x, w)\n y = Slice(a, zero, minus, two)",
        W, 2, 0, 0),
    "a crop of the past": (
        "y = Slice(x, two, most, two)", "", -2, 2, 0),
    "every second step": (
        "y = Slice(x, zero, most, two, two)", "", 0, 0, 0),
    "a pad in front": (
        "y = Pad(x, pads)", "int64[6] pads = {0, 0, 3, 0, 0, 0}", 3, -3, 0),
    "pooling": (
        "y = MaxPool<kernel_shape = [4], strides = [4]>(x)", "", 0, 3, 0),
    "a residual": (
        ("a = Conv<kernel_shape = [3], dilations = [4], pads = [8, 0]>(x, w)\n"
        " b = Slice(x, zero, most, two)\n y = Add(a, b)"), W, 8, 0, 6),
    "branches of two dilations on channels": (
        ("a = Conv<kernel_shape = [3], dilations = [3], pads = [6, 0]>(x, w)\n"
        " b = Conv<kernel_shape = [3], dilations = [5], pads = [10, 0]>(x, w)\n"
        " y = Concat<axis = 1>(a, b)"), W, 10, 0, 6),
    "zeros concatenated in front": (
        ("a = Shape<start = 0, end = 1>(x)\n b = Concat<axis = 0>(a, tail)\n"
        " c = Expand(nothing, b)\n y = Concat<axis = 2>(c, x)"),
        "int64[2] tail = {4, 2}, float[1,4,2] nothing = {0, 0, 0, 0, 0, 0, 0, 0}", 2, -2, 0),
    "transposed, over channels, and back": (
        ("a = Transpose<perm = [0, 2, 1]>(x)\n b = MatMul(a, m)\n"
        " y = Transpose<perm = [0, 2, 1]>(b)"),
        "float[4,4] m = {" + ", ".join(f"0.{i}" for i in range(11, 27)) + "}", 0, 0, 0),
    "layer norm over channels": (
        "a = Transpose<perm = [0, 2, 1]>(x)\n y = LayerNormalization<axis = -1>(a, ones)",
        "float[4] ones = {1, 1, 1, 1}", 0, 0, 0),
    "two spatial axes": (
        ("a = Unsqueeze(x, two)\n b = Unsqueeze(w, two)\n"
        " c = Conv<kernel_shape = [1, 3], dilations = [1, 2], pads = [0, 4, 0, 0]>(a, b)\n"
        " y = Squeeze(c, two)"), W, 4, 0, 2),
    "a gate": (
        ("a = Conv<kernel_shape = [3], pads = [2, 0]>(x, w)\n b = Sigmoid(a)\n c = Tanh(a)\n"
        " y = Mul(b, c)"), W, 2, 0, 0),
    "split on channels": (
        "a, b = Split<axis = 1>(x, halves)\n y = Mul(a, b)",
        "int64[2] halves = {2, 2}", 0, 0, 0),
    "split on time": (
        "a, y = Split<axis = 2>(x, parts)", "int64[2] parts = {5, 19}", -5, 5, 0),
    "grouped by reshape": (
        "a = Reshape(x, shape)\n y = Relu(a)", "int64[4] shape = {0, 2, 2, 24}", 0, 0, 0),
    "quantised": (
        "a = QuantizeLinear(x, scale, point)\n y = DequantizeLinear(a, scale, point)",
        "float scale = {0.01}, int8 point = {0}", 0, 0, 0),
    "softmax over channels": ("y = Softmax<axis = 1>(x)", "", 0, 0, 0),
    "the largest channel": (
        "y = ReduceMax<keepdims = 0>(x, one)", "", 0, 0, 0),
}  # fmt: skip
LENGTH = 24
CONSTANTS = (
    "int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] minus = {-2}, "
    "int64[1] most = {9223372036854775807}, int64 last = {-1}, int64[2] some = {3, 7}"
)


def graph(body: str, more: str = "") -> Graph:
    """A graph with whatever number of axes its output has."""
    constants = ", ".join(part for part in (CONSTANTS, more) if part)
    for axes in ("n", "n,t", "n,c,t", "n,a,b,t"):
        text = f"g (float[n,4,{LENGTH}] x) => (float[{axes}] y) <{constants}> {{ {body} }}"
        try:
            return parse(text)
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
            if "dimension" not in str(error) and "rank" not in str(error):
                raise
    raise AssertionError(body)


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_matters_is_what_the_analysis_says(name):
    body, more, lookback, lookahead, holes = FOLLOWED[name]
    made = graph(body, more)
    _, track = analyzed(made)
    found = track.reach
    assert (found.lookback, found.lookahead, found.holes) == (lookback, lookahead, holes)
    assert track.refusals == ()
    really = matters_per_step(made, track)
    assert really == predicted(track, len(really), LENGTH)


CAUSAL = "a = Conv<kernel_shape = [3], dilations = [2], pads = [4, 0]>(x, w)\n "
ENDS = {
    "the last step": (CAUSAL + "y = Gather<axis = 2>(a, last)", "the last step"),
    "the only step": (
        CAUSAL + "b = Slice(a, minus_one, most, two)\n y = Squeeze(b, two)", "the only step"),
    "a mean": (CAUSAL + "y = ReduceMean<keepdims = 0>(a, two)", "ReduceMean over time"),
    "a pool over all": (CAUSAL + "y = GlobalAveragePool(a)", "GlobalAveragePool over time"),
    "flattened": (CAUSAL + "y = Flatten(a)", "all steps, flattened"),
    "summed by a head": (
        CAUSAL + "y = MatMul(a, head)", "a weighted sum over time"),
    "chosen steps": (CAUSAL + "y = Gather<axis = 2>(a, some)", "chosen steps (Gather)"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_where_time_ends_is_noted(name):
    body, how = ENDS[name]
    head = "float[24,2] head = {" + ", ".join(["0.5"] * 48) + "}"
    _, track = analyzed(graph(body, f"{W}, {head}, int64[1] minus_one = {{-1}}"))
    (end,) = track.ends
    assert (end.how, end.refused, track.reach) == (how, "", None)
    assert (end.track.reach.receptive_field, end.track.reach.holes) == (5, 2)


REFUSED = {
    "attention": ("a = Transpose<perm = [0, 2, 1]>(x)\n y = MatMul(a, x)", "as attention"),
    "softmax over time": ("y = Softmax<axis = 2>(x)", "compares every step with all others"),
    "layer norm over time": (
        "y = LayerNormalization<axis = 1>(x, scales)", "normalises over time, so that every"),
    "instance norm": (
        "y = InstanceNormalization(x, four, four)", "BatchNorm, or LayerNorm over channels"),
    "reflect padding": ('y = Pad<mode = "reflect">(x, pads)', "in the mode 'reflect'"),
    "a sum over all before": ("y = CumSum(x, last)", "every step depends on all before it"),
    "time behind time": ("y = Concat<axis = 2>(x, x)", "one behind the other"),
    "windows": ("y = Gather<axis = 2>(x, square)", "cuts the signal into windows"),
    "steps mixed with channels": ("y = Reshape(x, mixed)", "mixes time with another axis"),
    "channels that are steps": (
        "a = Transpose<perm = [0, 2, 1]>(x)\n y = Conv<kernel_shape = [1]>(a, odd)",
        "transpose the signal in front of it"),
    "different strides": (
        "a = Slice(x, zero, twelve, two)\n b = Slice(x, zero, most, two, two)\n y = Add(a, b)",
        "its inputs have strides of [1, 2] steps"),
}  # fmt: skip
MORE = (
    "int64[6] pads = {0, 0, 3, 0, 0, 0}, float[4] four = {1, 1, 1, 1}, float[4,24] scales = "
    "{" + ", ".join(["1"] * 96) + "}, int64[2,2] square = {0, 1, 1, 2}, int64[3] mixed = "
    "{0, 8, 12}, int64[1] twelve = {12}, float[3,24,1] odd = {" + ", ".join(["1"] * 72) + "}"
)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_by_node(name):
    body, reason = REFUSED[name]
    _, track = analyzed(graph(body, MORE))
    (refusal,) = track.refusals
    assert reason in refusal
    assert "`y` (" in refusal
    assert track.reach is None


def test_a_refusal_names_the_module_of_pytorch():
    made = graph("y = Softmax<axis = 2>(x)")
    made.model.graph[0].metadata_props[MODULE_KEY] = "encoder.attention"
    _, track = analyzed(made)
    assert "`y` (Softmax in the module `encoder.attention`)" in track.refusals[0]


def test_a_gate_from_the_whole_window_leaves_no_step_alone():
    body = CAUSAL + "b = ReduceMean<keepdims = 1>(a, two)\n c = Sigmoid(b)\n y = Mul(a, c)"
    _, track = analyzed(graph(body, W))
    assert (track.axis, track.reach) == (2, None)
    assert [end.how for end in track.ends] == ["ReduceMean over time"]


def test_a_single_step_that_all_others_read():
    """As forecasters do that subtract the last value."""
    made = graph(
        "a = Slice(x, minus_one, most, two)\n y = Sub(x, a)", "int64[1] minus_one = {-1}"
    )
    timeline, track = analyzed(made)
    assert (track.axis, track.reach) == (2, None)
    needed = demand(made.model, timeline, {made.model.graph.outputs[0]: np.array([5])})
    assert needed[made.model.graph.inputs[0]].tolist() == [5, 23]


def test_what_does_not_depend_on_the_signal_has_no_track():
    made = graph("a = Shape(x)\n b = Cast<to = 1>(a)\n y = Mul(x, x)")
    timeline, _ = analyzed(made)
    assert {value.name for value in timeline.tracks} == {"x", "y"}


@st.composite
def chains(draw) -> str:
    """Convolutions, pools, crops and pads one behind the other, some with a residual."""
    lines, value = [], "x"
    for i in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "residual", "pool", "crop", "pad"]))
        new = f"v{i}"
        if kind in ("conv", "residual"):
            dilation = draw(st.integers(1, 4))
            front = draw(st.integers(0, 2 * dilation)) if kind == "conv" else 2 * dilation
            stride = draw(st.integers(1, 2)) if kind == "conv" else 1
            pads = [front, 2 * dilation - front]
            how = f"dilations = [{dilation}], strides = [{stride}], pads = {pads}"
            lines.append(f"c{i} = Conv<kernel_shape = [3], {how}>({value}, w)")
            end = f"Add(c{i}, {value})" if kind == "residual" else f"Identity(c{i})"
            lines.append(f"{new} = {end}")
        elif kind == "pool":
            lines.append(f"{new} = AveragePool<kernel_shape = [2], strides = [2]>({value})")
        else:
            operator = "Slice({}, one, most, two)" if kind == "crop" else "Pad({}, pads)"
            lines.append(f"{new} = {operator.format(value)}")
        value = new
    return "\n".join([*lines, f"y = Neg({value})"])


@given(chains())
def test_any_chain_is_followed(body):
    made = graph(body, f"{W}, int64[6] pads = {{0, 0, 3, 0, 0, 0}}")
    timeline, track = analyzed(made)
    really = matters_per_step(made, track)
    for step, (found, most) in enumerate(
        zip(really, predicted(track, len(really), LENGTH), strict=True)
    ):
        assert found <= most  # hidden padding cuts it short
        needed = demand(made.model, timeline, {made.model.graph.outputs[0]: np.array([step])})
        assert found == set(needed.get(made.model.graph.inputs[0], ()))


@pytest.mark.parametrize("padding", ["left", "crop"])
@pytest.mark.parametrize("head", ["last", "every", "mean"])
def test_networks_of_ours_are_causal_with_the_receptive_field_of_the_book(
    head, padding, tmp_path
):
    config = replace(TINY_TCN, head=head, causal_padding=padding, convolutions=2)
    captured = capture(make_source(tmp_path / "model.pt", config), TINY_LENGTH, 20)
    timeline = analyze(captured.model, {"signal": 2})
    tracks = [timeline.tracks[value] for value in captured.model.graph.outputs]
    (reach,) = {t.reach or t.ends[0].track.reach for t in tracks}
    per_block = 2 * (config.kernel_size - 1)
    assert reach.receptive_field == 1 + per_block * sum(config.dilations)
    assert reach.lookahead == 0
