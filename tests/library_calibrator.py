"""What ONNX Runtime's own calibrator finds, to compare with."""

from __future__ import annotations

import onnx_ir as ir
from onnxruntime.quantization import CalibrationMethod, create_calibrator


def library_ranges(graph, batches, operators, folder):
    """Extremes of each value, by name, over batches that are fed one by one."""
    ir.save(graph.model, folder / "float32.onnx")
    calibrator = create_calibrator(
        folder / "float32.onnx",
        list(operators),
        augmented_model_path=str(folder / "augmented.onnx"),
        calibrate_method=CalibrationMethod.MinMax,
    )
    feeds = iter({graph.signature.inputs[0].name: batch} for batch in batches)

    class Reader:
        def get_next(self):
            return next(feeds, None)

    calibrator.collect_data(Reader())
    found = calibrator.compute_data().items()
    return {name: (data.lowest.item(), data.highest.item()) for name, data in found}
