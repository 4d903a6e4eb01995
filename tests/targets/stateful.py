"""A small stateful graph made by hand: two causal convolutions, a hop at a time."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from tcn_export.graph import BATCH, Graph, Signature, StatePair, TensorSpec

CHANNELS, WIDTH, KERNEL, DILATIONS = 3, 8, 3, (1, 4)

_TEXT = """
<ir_version: 10, opset_import: ["" : 18]>
stream (float[batch,3,hop] x, float[batch,3,2] past_0, float[batch,8,8] past_1)
    => (float[batch,8,hop] y, float[batch,3,2] present_0, float[batch,8,8] present_1)
{
    joined_0 = Concat<axis = 2>(past_0, x)
    present_0 = Slice(joined_0, start_0, end, time)
    conv_0 = Conv<dilations = [1], kernel_shape = [3]>(joined_0, weight_0, bias_0)
    relu_0 = Relu(conv_0)
    joined_1 = Concat<axis = 2>(past_1, relu_0)
    present_1 = Slice(joined_1, start_1, end, time)
    y = Conv<dilations = [4], kernel_shape = [3]>(joined_1, weight_1, bias_1)
}
"""


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"weight_0": (WIDTH, CHANNELS, KERNEL), "weight_1": (WIDTH, WIDTH, KERNEL)}
    arrays = {name: rng.standard_normal(shape) * 0.3 for name, shape in shapes.items()}
    arrays |= {f"bias_{i}": rng.standard_normal(WIDTH) for i in (0, 1)}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def stateful_graph(hop: int = 1) -> Graph:
    """Its states are the last (kernel - 1) * dilation steps of what each convolution reads."""
    model = onnx.parser.parse_model(_TEXT.replace("hop", str(hop)))
    integers = {"start_0": [-2], "start_1": [-8], "end": [2**31], "time": [2]}
    arrays = {name: np.array(value, np.int64) for name, value in integers.items()}
    for name, array in (weights() | arrays).items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in model.graph.node:
        node.name = node.output[0]
    onnx.checker.check_model(model, full_check=True)
    states = tuple(
        StatePair(f"past_{i}", f"present_{i}", (BATCH, channels, steps), "float32")
        for i, (channels, steps) in enumerate(((CHANNELS, 2), (WIDTH, 8)))
    )
    signature = Signature(
        (TensorSpec("x", "float32", (BATCH, CHANNELS, hop), 2),),
        (TensorSpec("y", "float32", (BATCH, WIDTH, hop), 2),),
        states,
    )
    return Graph(ir.from_proto(onnx.shape_inference.infer_shapes(model)), signature)


def whole(x: np.ndarray) -> np.ndarray:
    """What the same network gives for a whole signal, zeros before it: plain float64."""
    values, w = x.astype(np.float64), weights()
    for i, dilation in enumerate(DILATIONS):
        steps = values.shape[2]
        padded = np.pad(values, ((0, 0), (0, 0), ((KERNEL - 1) * dilation, 0)))
        taps = [padded[:, :, k * dilation : k * dilation + steps] for k in range(KERNEL)]
        kernel = w[f"weight_{i}"].astype(np.float64)
        values = sum(np.einsum("oc,bct->bot", kernel[:, :, k], taps[k]) for k in range(KERNEL))
        values = values + w[f"bias_{i}"][:, None]
        if i == 0:
            values = np.maximum(values, 0)
    return values
