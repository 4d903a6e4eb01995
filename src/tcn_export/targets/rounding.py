"""Does ONNX Runtime round where `rewrite.explicit_rounding` tells it to? Asked each time.

No runtime promises to keep a cast to float16 and back. Should a later version see through it,
float16 would be judged by float32 arithmetic, and nobody would notice.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from tcn_export.errors import UnsupportedModelError
from tcn_export.graph import Graph, Signature, TensorSpec
from tcn_export.rewrite.base import run
from tcn_export.rewrite.explicit_rounding import ExplicitRounding
from tcn_export.targets.onnxruntime import build, runner

_TELLING = np.array([1 + 2.0**-12, 1 + 3 * 2.0**-11, 1e-8, 3e-7, 4e4, -1e-3], np.float32)
"""Rounded down, to even, to zero, to a number of few bits; beyond the range when doubled."""


_MODEL = """
<ir_version: 10, opset_import: ["" : 17]>
rounds (float[6] x) => (float[6] y) {
    read = Cast <to = 10> (x)
    twice = Add (read, read)
    y = Cast <to = 1> (twice)
}"""


def check_roundings_are_kept() -> None:
    """Raise `UnsupportedModelError` unless the roundings of a small graph take place."""
    proto = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(_MODEL))
    signature = Signature(
        (TensorSpec("x", "float32", _TELLING.shape),),
        (TensorSpec("y", "float32", _TELLING.shape),),
    )
    graph = run(ExplicitRounding(), Graph(ir.from_proto(proto), signature))
    found = runner(build(graph, "float32"), threads=1).run({"x": _TELLING})
    with np.errstate(over="ignore"):
        half = _TELLING.astype(np.float16)
        wanted = (half + half).astype(np.float32)
    if not np.array_equal(found["y"], wanted):
        raise UnsupportedModelError(
            f"ONNX Runtime {ort.__version__} does not round to float16 where it is told to: "
            "float16 cannot be judged with it. Use another version, or float32."
        )
