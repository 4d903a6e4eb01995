"""Bias correction: what quantisation moves a channel by, on average, its bias takes back.

Rounded weights err by the same amount at every step, so the error of a channel has a mean,
and means add up from layer to layer. The mean is measured on signals, layer by layer in the
order of the data, the layers before already corrected (Nagel, van Baalen, Blankevoort, Welling
2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2,
the empirical form of appendix D). A bias is there anyway, so a correction costs nothing at run
time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from tcn_export.graph import Graph, Step
from tcn_export.quantize.feeding import Feeding, Signals, Windows

_LINEAR = ("Conv", "Gemm")
_AT_ONCE = 32
"""Signals."""


def correct_biases(
    graph: Graph,
    quantized: Graph,
    signals: Signals,
    feeding: Callable[[Graph, Signals], Feeding] = Windows,
) -> Graph:
    """Move the biases of a Q/DQ graph so that its layers have the means of the float one.

    Args:
        graph: The float32 graph.
        quantized: The same, quantised.
        signals: Training windows, (windows, channels, length), or longer signals.
        feeding: How they run through a graph: as windows or as streams.
    """
    start = time.perf_counter()
    model = quantized.model.clone()
    # By node: the quantiser drops a Relu whose clipping the next QuantizeLinear does, and
    # gives its name to what the convolution computes.
    names = {node.name: str(node.outputs[0].name) for node in graph.model.graph}
    layers = [n for n in model.graph if _bias(n) is not None and n.name in names]
    wanted = _means(
        graph.model, [names[node.name] for node in layers], feeding(graph, signals)
    )
    corrected = 0
    for node in layers:
        name = str(node.outputs[0].name)
        given = _means(model, [name], feeding(quantized, signals))
        corrected += _move(node, given[name] - wanted[names[node.name]])
    step = Step("bias_correction", corrected, (), time.perf_counter() - start)
    return replace(quantized, model=model, history=(*quantized.history, step))


def _bias(node: ir.Node) -> ir.Value | None:
    """The constant that holds a quantised layer's bias, int32 or float32; None without one."""
    if node.op_type not in _LINEAR or len(node.inputs) < 3 or not _is_quantized(node):
        return None
    bias = node.inputs[2]
    giver = None if bias is None else bias.producer()
    if giver is not None and giver.op_type == "DequantizeLinear":
        bias = giver.inputs[0]
    is_private = bias is not None and len(list(bias.uses())) == 1
    return bias if is_private and bias is not None and bias.const_value is not None else None


def _is_quantized(node: ir.Node) -> bool:
    giver = node.inputs[1].producer() if node.inputs[1] is not None else None
    return giver is not None and giver.op_type == "DequantizeLinear"


def _move(layer: ir.Node, by: NDArray[np.float64]) -> bool:
    """Take a mean error off a bias, as far as its steps allow."""
    bias = _bias(layer)
    assert bias is not None
    assert bias.const_value is not None
    old = bias.const_value.numpy()
    if old.dtype == np.float32:
        new = (old - by).astype(np.float32)
    else:
        ((giver, _),) = bias.uses()
        scale = giver.inputs[1]
        assert scale is not None
        assert scale.const_value is not None
        steps = np.round(by / scale.const_value.numpy().astype(np.float64))
        limits = np.iinfo(old.dtype)
        new = np.clip(old - steps, limits.min, limits.max).astype(old.dtype)
    if (new == old).all():
        return False
    bias.const_value = ir.tensor(new, name=bias.name)
    return True


def _means(
    model: ir.Model, names: list[str], feeding: Feeding
) -> Mapping[str, NDArray[np.float64]]:
    """The mean of every channel (axis 1) of the values that a model has of ``names``."""
    clone = model.clone()
    values = {
        str(value.name): value for node in clone.graph for value in node.outputs if value.name
    }
    names = [name for name in names if name in values]
    kept = [value for value in clone.graph.outputs if value.name in feeding.kept]
    clone.graph.outputs.clear()
    clone.graph.outputs.extend([*kept, *(values[name] for name in names)])
    for name in names:
        values[name].type = values[name].type or ir.TensorType(ir.DataType.FLOAT)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        ir.to_proto(clone).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    sums: dict[str, NDArray[np.float64]] = {}
    count: dict[str, int] = {}
    for _, answers in feeding.run(session, names, _AT_ONCE):
        for name, value in zip(names, answers, strict=True):
            others = tuple(i for i in range(value.ndim) if i != 1)
            sums[name] = sums.get(name, 0) + value.sum(axis=others, dtype=np.float64)
            count[name] = count.get(name, 0) + value.size // value.shape[1]
    return {name: total / count[name] for name, total in sums.items()}
