"""States are the integers that convolutions read: nothing is lost between two hops."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from architectures import tcns
from integer_streams import (
    SILENT,
    answers,
    in_integers,
    odd_graph,
    ranges_of,
    stream_of,
    whole_graph,
)
from odd_streams import CHANNELS
from support import NO_SHRINKING, make_source, operators
from tcn_export.options import ExportOptions
from tcn_export.parity.metrics import sqnr_db
from tcn_export.parity.tolerance import INT8_SQNR_DB
from tcn_export.quantize.coverage import measure_coverage
from tcn_export.quantize.dialects import ORT_ARM64, ORT_X86_AVX2, ORT_X86_VNNI, TENSORRT
from tcn_export.quantize.lint import violations
from tcn_export.quantize.qdq import quantize
from tcn_export.quantize.recipe import Recipe
from tcn_export.quantize.steps_first import turn_states
from tcn_export.quantize.stream_ranges import stays_float
from tcn_export.quantize.stream_states import keep_integers
from tcn_export.quantizing import quantize_stream
from tcn_export.targets.onnxruntime import build, optimized_model

STEPS = 48
HOPS = (1, 4, 16, STEPS)
MOVED_BY = ("Concat", "MaxPool", "Slice", "Where")
ON_CPU = (ORT_X86_VNNI, ORT_X86_AVX2, ORT_ARM64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("streams")


def noise(channels=CHANNELS, steps=STEPS, streams=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((streams, channels, steps)).astype(np.float32)


def dtypes(graph):
    return {pair.input: pair.dtype for pair in graph.signature.states}


@given(
    config=tcns().filter(lambda config: config.head != "mean"),
    hops=st.lists(st.sampled_from(HOPS[:-1]), min_size=1, max_size=2, unique=True),
    dialect=st.sampled_from(ON_CPU),
    seed=st.integers(0, 99),
)
@settings(max_examples=settings().max_examples // 5, phases=NO_SHRINKING)
def test_any_chunks_are_answered_as_the_whole_signal_to_the_bit(
    config, hops, dialect, seed, folder
):
    source = make_source(folder / "m.pt", config, seed=seed)
    graph, x = whole_graph(source, STEPS), noise(source.channels, seed=seed)
    mixed = x + source.center[:, None].astype(np.float32)
    ranges = ranges_of(stream_of(graph, 8), mixed, dialect)
    whole = answers(quantize(graph, ranges, dialect), mixed)
    for hop in hops:
        stream = in_integers(stream_of(graph, hop), ranges, dialect)
        assert set(dtypes(stream).values()) <= {dialect.activation}
        assert np.array_equal(answers(stream, mixed), whole)


@pytest.mark.parametrize("kind", ["Gated", "LooksAhead", "Delayed", "Pooled", "Remembers"])
@pytest.mark.parametrize("dialect", ON_CPU, ids=lambda d: d.isa)
def test_chunks_of_odd_networks_are_answered_as_the_whole_signal_to_the_bit(kind, dialect):
    channels = 1 if kind == "Remembers" else CHANNELS
    graph, x = odd_graph(kind, STEPS, channels), noise(channels)
    ranges = ranges_of(stream_of(graph, 8), x, dialect)
    given_ = [answers(in_integers(stream_of(graph, h), ranges, dialect), x) for h in HOPS]
    assert np.ptp(given_[0]) > 0
    steps = min(y.shape[-1] for y in given_)
    assert steps >= STEPS - 3
    for y in given_[1:]:
        assert np.array_equal(y[..., :steps], given_[0][..., :steps])
    assert sqnr_db(given_[0], answers(stream_of(graph, 4), x)) > INT8_SQNR_DB


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Gated", {"past_signal": "uint8", "past_Tanh": "uint8"}),
        (
            "LooksAhead",
            {"past_signal": "uint8", "past_Relu": "uint8", "past_started": "float32"},
        ),
        ("Delayed", {"past_signal": "uint8", "past_Relu": "uint8"}),
        (
            "Mean",
            {
                "past_signal": "uint8",
                "past_Relu/sum": "float32",
                "past_Relu/sum_lost": "float32",
                "past_Relu/steps_seen": "int64",
            },
        ),
    ],
)
def test_states_are_integers_where_integers_read_them_and_nowhere_else(kind, expected):
    float_stream = stream_of(odd_graph(kind), 4, mean=0)
    ranges = ranges_of(float_stream, noise(), ORT_X86_VNNI)
    stream = in_integers(float_stream, ranges, ORT_X86_VNNI)
    assert dtypes(stream) == expected
    artifact = build(stream, "int8")
    session = ort.InferenceSession(artifact.files[artifact.model])
    told = {v.name: (v.type, tuple(v.shape)) for v in session.get_inputs()}
    told |= {v.name: (v.type, tuple(v.shape)) for v in session.get_outputs()}
    for pair in stream.signature.states:
        kind_ = "tensor(float)" if pair.dtype == "float32" else f"tensor({pair.dtype})"
        assert told[pair.input] == told[pair.output] == (kind_, pair.shape)


def test_a_layer_in_float_reads_states_in_float():
    graph = odd_graph("Delayed")
    float_stream = stream_of(graph, 4)
    second = [n.name for n in float_stream.model.graph if n.op_type == "Conv"][1]
    x = noise()
    ranges = ranges_of(float_stream, x, ORT_X86_VNNI)
    stream = in_integers(float_stream, ranges, ORT_X86_VNNI, frozenset({second}))
    coverage = measure_coverage(float_stream, optimized_model(build(stream, "int8")))
    assert (coverage.integer, coverage.total) == (2, 3)
    longer = in_integers(stream_of(graph, 16), ranges, ORT_X86_VNNI, frozenset({second}))
    assert sqnr_db(answers(longer, x), answers(float_stream, x)) > INT8_SQNR_DB


@pytest.mark.parametrize("kind", ["Gated", "LooksAhead", "Delayed"])
def test_every_convolution_of_a_stream_runs_on_integers(kind):
    float_stream = stream_of(odd_graph(kind), 4)
    ranges = ranges_of(float_stream, noise(), ORT_X86_VNNI)
    stream = turn_states(in_integers(float_stream, ranges, ORT_X86_VNNI))
    coverage = measure_coverage(float_stream, optimized_model(build(stream, "int8")))
    assert coverage.left_in_float == ()
    assert coverage.integer == coverage.total == 3
    assert violations(stream.model, ORT_X86_VNNI, stays_float(float_stream)) == []


@pytest.mark.parametrize("dialect", [ORT_X86_VNNI, TENSORRT], ids=["onnx", "trt"])
@pytest.mark.parametrize("kind", ["Gated", "LooksAhead", "Delayed", "Pooled"])
def test_nothing_that_is_only_moved_is_rounded_again(kind, dialect):
    float_stream = stream_of(odd_graph(kind), 4)
    stream = in_integers(float_stream, ranges_of(float_stream, noise(), dialect), dialect)
    for node in stream.model.graph:
        if node.op_type == "QuantizeLinear":
            before = node.inputs[0].producer()
            while before is not None and before.op_type in MOVED_BY:
                before = before.inputs[before.op_type in {"Concat", "Where"}].producer()
            if before is not None and before.op_type == "DequantizeLinear":
                for i in (1, 2):
                    one, other = (n.inputs[i].const_value.numpy() for n in (node, before))
                    assert np.array_equal(one, other)
        elif node.op_type == "Concat" and node.outputs[0].dtype != ir.DataType.FLOAT:
            readers = {use.node.op_type for use in node.outputs[0].uses()}
            assert readers <= {"DequantizeLinear", "Slice"}


def test_tensorrt_has_states_of_int8_whose_zero_is_zero():
    graph, x = odd_graph("Gated"), noise()
    float_stream = stream_of(graph, 4)
    ranges = ranges_of(float_stream, x, TENSORRT)
    stream = in_integers(float_stream, ranges, TENSORRT)
    assert set(dtypes(stream).values()) == {"int8"}
    assert "BitwiseXor" not in operators(stream)
    assert violations(stream.model, TENSORRT, stays_float(float_stream)) == []
    # ONNX Runtime computes this dialect in float32, and sums in another order for other hops.
    whole = answers(in_integers(stream_of(graph, STEPS), ranges, TENSORRT), x)
    assert sqnr_db(answers(stream, x), whole) > 2 * INT8_SQNR_DB
    assert sqnr_db(whole, answers(graph, x)) > INT8_SQNR_DB


def test_without_an_exclusive_or_a_state_whose_zero_is_another_integer_stays_float():
    x, floats = noise(), [stream_of(odd_graph("Gated", opset=18), hop) for hop in (1, 16)]
    for stream in floats:
        stream.model.opset_imports[""] = 17  # as in files of others
    ranges = ranges_of(floats[0], x, ORT_X86_VNNI)
    streams = [in_integers(stream, ranges, ORT_X86_VNNI) for stream in floats]
    assert dtypes(streams[0]) == {"past_signal": "float32", "past_Tanh": "float32"}
    assert np.array_equal(*(answers(stream, x) for stream in streams))


def test_integer_states_are_left_alone_the_second_time():
    float_stream = stream_of(odd_graph("LooksAhead"), 4)
    once = in_integers(
        float_stream, ranges_of(float_stream, noise(), ORT_X86_VNNI), ORT_X86_VNNI
    )
    twice = keep_integers(once)
    assert twice.history[-1].modified == 0
    assert twice.signature == once.signature
    assert operators(twice) == operators(once)


@pytest.mark.parametrize("hop", [1, 16])
def test_steps_first_saves_transposes_and_changes_no_bit(hop, folder):
    source = make_source(folder / "m.pt")
    graph, x = whole_graph(source, STEPS), noise(source.channels)
    float_stream = stream_of(graph, hop)
    plain = in_integers(float_stream, ranges_of(float_stream, x, ORT_X86_VNNI), ORT_X86_VNNI)
    turned = turn_states(plain)
    before, after = (
        Counter(node.op_type for node in optimized_model(build(g, "int8")).graph)
        for g in (plain, turned)
    )
    assert after["Transpose"] < before["Transpose"]
    assert after["QLinearConv"] == before["QLinearConv"]
    assert np.array_equal(answers(turned, x), answers(plain, x))
    for old, new in zip(plain.signature.states, turned.signature.states, strict=True):
        assert (old.input, old.output, old.dtype) == (new.input, new.output, new.dtype)
        assert (old.shape[0], old.shape[2], old.shape[1]) == new.shape


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(correct_bias=True), Recipe("mse")])
def test_a_stream_is_quantised_in_one_call_and_says_how(recipe, folder):
    source = make_source(folder / "m.pt")
    graph, x = whole_graph(source, STEPS), noise(source.channels)
    options = ExportOptions(precision="int8", data="noise", cpu_isa="vnni")
    hop, long = stream_of(graph, 4), stream_of(graph, 16)
    made, how = quantize_stream({"concat": hop}, x, options, recipe, SILENT, "noise", long)
    assert how["calibrated"] == "stream"
    assert (how["streams"], how["data"], how["in_float"]) == (2, "noise", [])
    assert set(dtypes(made["concat"]).values()) == {"uint8"}
    truth = answers(graph, x)
    assert sqnr_db(answers(made["concat"], x)[..., :1], truth[..., :1]) > 0
