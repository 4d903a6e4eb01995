"""Write QuantizeLinear and DequantizeLinear into a graph, by ONNX Runtime's quantiser."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import TopologicalSortPass
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorsData

from tcn_export.errors import DataError
from tcn_export.graph import Graph, Step
from tcn_export.quantize.calibration import Ranges
from tcn_export.quantize.dialects import Dialect
from tcn_export.quiet import quiet

_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}


def quantize(
    graph: Graph, ranges: Ranges, dialect: Dialect, in_float: Collection[str] = ()
) -> Graph:
    """Quantise the operators of ``dialect``; inputs and outputs of the graph stay float32.

    Args:
        graph: The float32 graph.
        ranges: Of all values that the dialect quantises.
        dialect: What the consumer wants.
        in_float: Names of nodes that are not quantised.

    Raises:
        DataError: The ranges are too large.
    """
    start = time.perf_counter()
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(graph.model), strict_mode=True)
    quantizer = QDQQuantizer(
        proto,
        per_channel=dialect.per_channel,
        reduce_range=dialect.reduce_range,
        weight_qType=_TYPES[dialect.weight],
        activation_qType=_TYPES[dialect.activation],
        tensors_range=_table(ranges),
        nodes_to_quantize=[],
        nodes_to_exclude=[*in_float, *(_offsets(graph) if dialect.inputs_only else [])],
        op_types_to_quantize=list(dialect.operators),
        extra_options={
            "ActivationSymmetric": dialect.symmetric,
            "WeightSymmetric": True,
            "QuantizeBias": not dialect.float_bias,
            "DedicatedQDQPair": dialect.inputs_only,
            "OpTypesToExcludeOutputQuantization": (
                list(dialect.operators) if dialect.inputs_only else []
            ),
        },
    )
    try:
        with quiet("", level=logging.ERROR):  # the quantiser remarks on the root logger
            quantizer.quantize_model()
    except AssertionError as error:  # the quantiser's own check of scales
        raise DataError(
            f"the calibration windows give ranges that no scale can hold ({error}). Their "
            "values are too large; check their units."
        ) from error
    model = ir.from_proto(quantizer.model.model)
    TopologicalSortPass()(model)
    typed = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True)
    onnx.checker.check_model(typed, full_check=True)
    model = ir.from_proto(typed)
    modified = sum(node.op_type == "QuantizeLinear" for node in model.graph)
    step = Step(f"quantize[{dialect.name}]", modified, (), time.perf_counter() - start)
    return replace(graph, model=model, history=(*graph.history, step))


def _table(ranges: Ranges) -> Any:
    """The ranges as ONNX Runtime's quantiser reads them; whatever the method, as min-max."""
    return TensorsData(
        CalibrationMethod.MinMax,
        {
            name: (np.array(low, np.float32), np.array(high, np.float32))
            for name, (low, high) in ranges.by_name.items()
        },
    )


def _offsets(graph: Graph) -> list[str]:
    """Additions of a constant: biases and normalisations, which want full precision."""
    return [
        node.name or ""
        for node in graph.model.graph
        if node.op_type == "Add" and any(v is not None and v.const_value for v in node.inputs)
    ]
