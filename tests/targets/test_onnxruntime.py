from __future__ import annotations

import numpy as np
import pytest

from support import TINY_LENGTH, make_source
from tcn_export.capture import capture
from tcn_export.errors import BundleError, DataError
from tcn_export.graph import Signature, TensorSpec
from tcn_export.targets.base import check_feeds, check_symbols_agree
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
        check_symbols_agree(Signature(specs, ()), feeds)


def test_model_with_other_inputs_than_its_signature_is_refused(tmp_path):
    source = make_source(tmp_path / "model.pt")
    artifact = build(capture(source, TINY_LENGTH, 20), "float32")
    other = Signature(
        (TensorSpec("x", "float32", ("batch", 3, 24)),), artifact.signature.outputs
    )
    with pytest.raises(BundleError, match="takes the inputs signal, but it should take x"):
        OnnxRuntimeRunner(artifact.files["model.onnx"], other)


@pytest.mark.parametrize("raw", [b"", b"not an ONNX model", b"\x08\x0a"])
def test_models_that_the_runtime_refuses_are_an_error(raw):
    with pytest.raises(BundleError, match="cannot load the model"):
        OnnxRuntimeRunner(raw, Signature((), ()))
