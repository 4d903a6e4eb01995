"""Random networks over time as ONNX graphs, of blocks that PyTorch networks are made of."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tcn_export.graph import BATCH, Graph, Signature, TensorSpec

CHANNELS = 4
HEADS = ("last", "fixed", "few", "strided", "reversed", "every", "mean")
OPSETS = (18, 20, 23)
KINDS = ("plain", "residual", "gate", "one gate", "strided", "pool", "crop", "pad")


class Writer:
    """Writes nodes one behind the other; weights are seeded noise."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def constant(self, array: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def convolution(self, x: str, kernel: int, dilation: int, front: int, behind: int,
                    stride: int = 1, groups: int = 1, inputs: int = CHANNELS,
                    outputs: int = CHANNELS) -> str:  # fmt: skip
        shape = (outputs, inputs // groups, kernel)
        weight = self._rng.standard_normal(shape) / np.sqrt(kernel * inputs / groups)
        names = [self.constant(a.astype(np.float32))
                 for a in (weight, self._rng.standard_normal(outputs))]  # fmt: skip
        return self.add("Conv", x, *names, kernel_shape=[kernel], dilations=[dilation],
                        strides=[stride], pads=[front, behind], group=groups)  # fmt: skip


def head(writer: Writer, x: str, kind: str, length: int) -> str:
    if kind == "last":
        return writer.add("Gather", x, writer.constant(np.array(-1, np.int64)), axis=2)
    if kind == "fixed":
        step = writer.constant(np.array(length // 3, np.int64))
        return writer.add("Gather", x, step, axis=2)
    if kind == "few":
        bounds = (-min(3, length), 2**62, 2)
        return writer.add("Slice", x, *(writer.integers(n) for n in bounds))
    if kind == "strided":
        return writer.add("Slice", x, *(writer.integers(n) for n in (0, 2**62, 2, 5)))
    if kind == "reversed":
        step = writer.integers(1, 0) if length > 1 else writer.integers(0)
        return writer.add("Gather", x, step, axis=-1)
    if kind == "mean":
        return writer.add("ReduceMean", x, writer.integers(2), keepdims=0)
    return writer.add("Identity", x)


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """Causal ones and others; the window may be shorter than the receptive field."""
    length = draw(st.sampled_from([5, 17, 40, 64]))
    writer, x, steps = Writer(draw(st.integers(0, 99))), "x", length
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(KINDS))
        kernel, dilation = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 3, 4, 7, 16]))
        reach, groups = (kernel - 1) * dilation, draw(st.sampled_from([1, 2, 4]))
        front = draw(st.sampled_from([reach, reach // 2]))
        if kind in ("plain", "residual", "gate"):
            y = writer.convolution(x, kernel, dilation, front, reach - front, groups=groups)
            if kind == "gate":
                other = writer.convolution(x, kernel, dilation, front, reach - front)
                y = writer.add("Mul", writer.add("Tanh", y), writer.add("Sigmoid", other))
            x = y if kind == "plain" else writer.add("Add", y, x)
        elif kind == "strided" and steps > 4:
            x = writer.convolution(x, kernel, 1, kernel - 1, 0, stride=2)
            steps = (steps - 1) // 2 + 1
        elif kind == "one gate":
            gate = writer.convolution(x, 1, 1, 0, 0, outputs=1)
            x = writer.add("Mul", x, writer.add("Sigmoid", gate))
        elif kind == "pad":  # of time and of channels at once
            wide = writer.add("Pad", x, writer.integers(0, 1, reach, 0, 1, 0))
            x = writer.convolution(wide, kernel, dilation, 0, 0, inputs=CHANNELS + 2)
        elif kind == "pool" and steps > 4:
            operator = draw(st.sampled_from(["MaxPool", "AveragePool"]))
            size = draw(st.integers(2, 3))
            stride, pads = draw(st.integers(1, size)), [draw(st.integers(0, size // 2))] * 2
            shape = {"kernel_shape": [size], "strides": [stride], "pads": pads}
            if operator == "AveragePool":
                shape["count_include_pad"] = draw(st.integers(0, 1))
            x = writer.add(operator, x, **shape)
            steps = (steps + sum(pads) - size) // stride + 1
        elif kind == "crop" and steps > 4:
            x = writer.add("Slice", x, *(writer.integers(n) for n in (1, 2**62, 2)))
            steps -= 1
        x = writer.add("Relu", x)
    output = head(writer, x, draw(st.sampled_from(HEADS)), steps)
    return finished(writer, output, length, draw(st.sampled_from(OPSETS)))


def finished(writer: Writer, output: str, length: int, opset: int = 20) -> Graph:
    """The graph of what was written."""
    value = helper.make_tensor_value_info
    shape = [BATCH, CHANNELS, length]
    unknown = onnx.ValueInfoProto(name=output)
    graph = helper.make_graph(
        writer.nodes, "network", [value("x", TensorProto.FLOAT, shape)], [unknown],
        writer.constants,
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10
    )
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    signature = Signature((TensorSpec("x", "float32", (BATCH, CHANNELS, length), 2),), ())
    return Graph(ir.from_proto(model), signature)
