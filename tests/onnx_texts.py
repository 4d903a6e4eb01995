"""ONNX models as text, and the weights that they read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.standard_normal((4, 3, 3)).astype(np.float32),
    "b": RNG.standard_normal(4).astype(np.float32),
    "axes": np.array([2]),
}
BODY = "h = Conv<pads=[2, 0]>(x, w, b)  r = Relu(h)  logits = ReduceMean<keepdims=0>(r, axes)"
MEAN = f"(float[batch, 3, 12] x) => (float[batch, 4] logits) {{ {BODY} }}"


HEAD = "(float[N, 3, 12] x) => (float[N, 3, 12] y)"


def build(text: str, weights=WEIGHTS, opset: int = 20, more: str = "") -> onnx.ModelProto:
    """A model from ONNX text without its header; only the weights that it reads are kept."""
    imports = f'"" : {opset}{more}'
    model = parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> g {text}")
    read = {name for node in model.graph.node for name in node.input}
    read |= {
        name for function in model.functions for node in function.node for name in node.input
    }
    for name, value in weights.items():
        if name in read:
            model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model


def write(model: onnx.ModelProto | str, path: Path = Path("own.onnx")) -> Path:
    made = build(model) if isinstance(model, str) else model
    path.write_bytes(made.SerializeToString())
    return path
