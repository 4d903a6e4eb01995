"""What is written for TensorRT 8 computes the same, in what TensorRT 8 reads."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from tcn_export.parity.metrics import sqnr_db
from tcn_export.targets.session import session_options
from write_for_tensorrt8 import OLD_OPSET, write_old


def answers(path, x):
    session = ort.InferenceSession(str(path), session_options(1))
    return session.run(None, {"signal": x})[0]


@pytest.mark.parametrize(
    ("precision", "least"), [("float32", np.inf), ("int8", np.inf), ("float16", 60)]
)
def test_the_same_graph_in_older_words(kits, tmp_path, precision, least):
    """ONNX Runtime places the casts of float16 otherwise, and rounds elsewhere then."""
    new, old = kits / f"tiny-trt-{precision}" / "model.onnx", tmp_path / "old.onnx"
    write_old(ir.load(new), old)
    x = np.random.default_rng(0).standard_normal((4, 3, 24)).astype(np.float32)
    assert sqnr_db(answers(old, x), answers(new, x).astype(np.float64)) >= least
    model = ir.load(old)
    assert model.opset_imports[""] == OLD_OPSET
    types = {value.const_value.dtype for value in model.graph.initializers.values()}
    zeros = [v for v in model.graph.initializers.values() if v.dtype == ir.DataType.INT8]
    assert all(not value.const_value.numpy().any() for value in zeros), "zero points only"
    assert ir.DataType.FLOAT in types
