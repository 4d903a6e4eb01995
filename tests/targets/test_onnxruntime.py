from __future__ import annotations

import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import TINY_LENGTH, make_source
from tcn_export.capture import capture
from tcn_export.errors import BundleError, DataError
from tcn_export.graph import Signature, TensorSpec
from tcn_export.targets.base import check_feeds, symbol_sizes
from tcn_export.targets.external_data import _message_has, has_external_data
from tcn_export.targets.onnxruntime import OnnxRuntimeRunner, build


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    source = make_source(tmp_path_factory.mktemp("runner") / "model.pt")
    artifact = build(capture(source, TINY_LENGTH, 20), "float32")
    return OnnxRuntimeRunner(artifact.files["model.onnx"], artifact.signature)


def signal(*shape, dtype=np.float32):
    return {"signal": np.zeros(shape, dtype)}


@pytest.mark.parametrize("batch", [1, 5])
def test_any_batch_is_answered(runner, batch):
    assert runner.run(signal(batch, 3, TINY_LENGTH))["logits"].shape == (batch, 4)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "the inputs are none; the model takes signal"),
        ({"x": np.zeros(1)}, "the inputs are x; the model takes signal"),
        (signal(1, 3, TINY_LENGTH, dtype=np.float64), "`signal` is float64; .* takes float32"),
        (
            signal(1, 4, TINY_LENGTH),
            r"the shape \(1, 4, 24\); the model takes \(batch, 3, 24\)",
        ),
        (signal(1, 3, 25), r"the shape \(1, 3, 25\)"),
        (signal(3, TINY_LENGTH), r"the shape \(3, 24\)"),
        (signal(0, 3, TINY_LENGTH), r"the shape \(0, 3, 24\)"),
        ({"signal": [[1.0]]}, "is a list; give a numpy array"),
    ],
)
def test_wrong_inputs_are_refused_with_both_sides_named(runner, feeds, message):
    with pytest.raises(DataError, match=message):
        runner.run(feeds)


def test_one_symbol_cannot_have_two_sizes():
    specs = tuple(TensorSpec(name, "float32", ("batch", 2)) for name in ("a", "b"))
    feeds = {"a": np.zeros((1, 2), np.float32), "b": np.zeros((3, 2), np.float32)}
    check_feeds(Signature(specs, ()), feeds)
    with pytest.raises(DataError, match=r"disagree on `batch`: 1 and 3 \(in `b`\)"):
        symbol_sizes(Signature(specs, ()), feeds)


def test_model_with_other_inputs_than_its_signature_is_refused(tmp_path):
    source = make_source(tmp_path / "model.pt")
    artifact = build(capture(source, TINY_LENGTH, 20), "float32")
    other = Signature(
        (TensorSpec("x", "float32", ("batch", 3, 24)),), artifact.signature.outputs
    )
    with pytest.raises(BundleError, match="takes the inputs signal, but it should take x"):
        OnnxRuntimeRunner(artifact.files["model.onnx"], other)


@pytest.mark.parametrize("raw", [b"", b"not an ONNX model", b"\x08\x0a", b"\x3a\xff\xff"])
def test_models_that_the_runtime_refuses_are_an_error(raw):
    with pytest.raises(BundleError, match=r"cannot load the model|is no ONNX file"):
        OnnxRuntimeRunner(raw, Signature((), ()))


def test_weights_outside_the_model_are_never_read(tmp_path, monkeypatch):
    source = make_source(tmp_path / "model.pt")
    artifact = build(capture(source, TINY_LENGTH, 20), "float32")
    proto = onnx.ModelProto.FromString(artifact.files["model.onnx"])
    assert not has_external_data(artifact.files["model.onnx"])
    weight = next(t for t in proto.graph.initializer if t.name.endswith("conv1.weight"))
    (tmp_path / "side.bin").write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="side.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="points to weights in another file"):
        OnnxRuntimeRunner(proto.SerializeToString(), artifact.signature)


def hidden(place):
    """A model with one tensor that lies elsewhere, at a place where few would look."""
    outside = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=1)
    outside.external_data.add(key="location", value="side.bin")
    constant = onnx.helper.make_node("Constant", [], ["y"], value=outside)
    inner = onnx.helper.make_graph([constant], "inner", [], [])
    model = onnx.helper.make_model(onnx.helper.make_graph([], "outer", [], []))
    if place == "a node's attribute":
        model.graph.node.append(constant)
    elif place == "a branch":
        model.graph.node.append(onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner))
    elif place == "a function":
        model.functions.add(name="f", domain="d").node.append(constant)
    else:
        model.graph.sparse_initializer.add().values.CopyFrom(outside)
    return model.SerializeToString()


@pytest.mark.parametrize(
    "place", ["a node's attribute", "a branch", "a function", "a sparse initializer"]
)
def test_weights_outside_the_model_are_found_wherever_they_hide(place):
    assert has_external_data(hidden(place))


def test_fields_with_a_number_cut_off_by_readers_are_an_error():
    tensor = bytes([0x80 | (14 << 3), 0x80, 0x80, 0x80, 0x10, 1])  # 14, one bit beyond 32
    graph = bytes([(5 << 3) | 2, len(tensor)]) + tensor
    with pytest.raises(ValueError, match="field number out of range"):
        has_external_data(bytes([(7 << 3) | 2, len(graph)]) + graph)


def test_messages_nested_without_end_are_an_error():
    model = b""
    for depth in range(500):  # graph, node, attribute, graph, ...
        number = (5, 1, 6)[depth % 3]
        size, length = b"", len(model)
        while length >= 0x80:
            size, length = size + bytes([0x80 | (length & 0x7F)]), length >> 7
        model = bytes([(number << 3) | 2]) + size + bytes([length]) + model
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        _message_has(memoryview(model), "Graph", 0)


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_a_model_or_an_error(raw):
    with contextlib.suppress(ValueError):
        has_external_data(raw)
