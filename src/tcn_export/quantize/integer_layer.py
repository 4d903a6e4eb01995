"""A convolution or a product of matrices that ONNX Runtime computes on integers, from Q/DQ.

What ONNX Runtime fuses (QLinearConv, QGemm, QLinearMatMul, MatMulIntegerToFloat) is computed
here in numpy, rounding as it rounds, so that the sums can be those of another processor.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from tcn_export.quantize.int16_pairs import excess, may_saturate, multiply

Array = NDArray[Any]
OPERATORS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class Quantized:
    """Scale and zero point of one value; the scale of weights is one per output channel."""

    scale: NDArray[np.float32]
    zero: int


@dataclass(frozen=True)
class IntegerLayer:
    """One layer with its constants.

    Attributes:
        node: The Conv, Gemm or MatMul.
        weights: int8, (groups, outputs, inner): in the order in which the kernel adds, for a
            convolution the taps outside and the channels of the group inside.
        bias: int32, one per output channel.
        given: How the output is quantised; None where it is float32.
    """

    node: NodeProto
    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    read: Quantized
    weight: Quantized
    given: Quantized | None
    kernel: tuple[int, ...]

    @property
    def may_saturate(self) -> bool:
        """Whether its weights could saturate; depthwise kernels multiply in 32 bits."""
        _, outputs, inner = self.weights.shape
        is_depthwise = bool(self.kernel) and outputs == 1 and inner == np.prod(self.kernel)
        return not is_depthwise and any(may_saturate(group) for group in self.weights)

    def run(self, x: NDArray[np.uint8], saturates: bool) -> tuple[Array, float]:
        """Compute the layer for activations as integers.

        Args:
            x: As the layer reads it.
            saturates: In int16 pairs, as on x86 without VNNI; otherwise exactly.

        Returns:
            The output as it is handed on, and the share of the sums that saturated.
        """
        pairs = list(zip(self.weights, self._columns(x), strict=True))
        sums = np.concatenate([multiply(*pair) for pair in pairs], axis=1)
        hit = 0.0
        if saturates:
            found = [excess(*pair) for pair in pairs]
            sums -= np.concatenate([taken for taken, _ in found], axis=1)
            hit = sum(int(where.sum()) for _, where in found) / sums.size
        return self._output(x, sums), hit

    def _columns(self, x: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """What each group multiplies: (batch, inner, positions)."""
        if self.node.op_type != "Conv":
            return [x.reshape(-1, x.shape[-1], 1)]
        padded, sizes = self._padded(x)
        taps = []
        for tap in itertools.product(*map(range, self.kernel)):
            steps = zip(
                tap, self._ints("dilations"), self._ints("strides"), sizes, strict=True
            )
            where = tuple(slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in steps)
            index = (slice(None), slice(None), *where)
            taken: Array = padded[index]
            taps.append(taken.reshape(len(x), len(self.weights), -1, int(np.prod(sizes))))
        joined = np.concatenate(taps, axis=2)
        return [joined[:, group] for group in range(len(self.weights))]

    def _padded(self, x: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], list[int]]:
        """Windows with their padding, which is the zero point; and how many positions."""
        pads, rank = self._ints("pads", 0, 2), len(self.kernel)
        widths = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
        padded = np.pad(x, widths, constant_values=self.read.zero)
        each = zip(
            padded.shape[2:], self.kernel, self._ints("dilations"), self._ints("strides"),
            strict=True,
        )  # fmt: skip
        return padded, [(size - (k - 1) * d - 1) // s + 1 for size, k, d, s in each]

    def _output(self, x: NDArray[np.uint8], sums: NDArray[np.int32]) -> Array:
        offset = self.read.zero * self.weights.sum(axis=2, dtype=np.int32).reshape(-1)
        total = (sums + (self.bias - offset)[:, None]).astype(np.float32)
        scale = self.read.scale * self.weight.scale
        if self.given is not None:
            scale = scale / self.given.scale
        numbers: Array = total * np.broadcast_to(scale, self.bias.shape)[:, None]
        if self.given is not None:
            whole = np.rint(numbers) + self.given.zero
            numbers = np.clip(whole, 0, 255).astype(np.uint8)
        if self.node.op_type != "Conv":
            return numbers.reshape(*x.shape[:-1], -1)
        return numbers.reshape(*numbers.shape[:2], *self._padded(x)[1])

    def _ints(self, name: str, default: int = 1, times: int = 1) -> list[int]:
        given: Sequence[int] | None = _attributes(self.node).get(name)
        return list(given) if given else [default] * times * len(self.kernel)


def integer_layer(
    nodes: Sequence[NodeProto], main: NodeProto, constants: Mapping[str, TensorProto]
) -> IntegerLayer | None:
    """Read a layer; None where ONNX Runtime does not compute it on u8 times s8.

    Args:
        nodes: ``main``, the DequantizeLinear in front of it, the QuantizeLinear behind it.
        main: The node that computes.
        constants: Of the graph.
    """
    if main.op_type not in OPERATORS:
        return None
    makers = {output: node for node in nodes for output in node.output}
    sides = [makers.get(name) for name in main.input[:2]]
    if any(node is None or node.op_type != "DequantizeLinear" for node in sides):
        return None
    read, weight = (_read(node.input[1:], constants) for node in sides if node is not None)
    stored = constants.get(sides[1].input[0]) if sides[1] is not None else None
    if read is None or weight is None or stored is None:
        return None
    behind = [n for n in nodes if n.op_type == "QuantizeLinear" and n.input[0] in main.output]
    given = _read(behind[0].input[1:], constants) if behind else None
    raw = onnx.numpy_helper.to_array(stored)
    attributes = _attributes(main)
    if raw.dtype != np.int8 or read[1].dtype != np.uint8 or weight[1].any():
        return None
    if main.op_type == "Conv" and given is None:
        return None  # a convolution without QuantizeLinear behind it stays in float32
    if {attributes.get("alpha", 1.0), attributes.get("beta", 1.0)} != {1.0}:
        return None
    weights, kernel = _in_order(raw, main.op_type, attributes)
    bias = _bias(main, makers, constants)
    return IntegerLayer(
        main,
        weights,
        np.zeros(weights.shape[0] * weights.shape[1], np.int32) if bias is None else bias,
        Quantized(read[0].reshape(-1), int(read[1].reshape(-1)[0])),
        Quantized(weight[0].reshape(-1), 0),
        None
        if given is None
        else Quantized(given[0].reshape(-1), int(given[1].reshape(-1)[0])),
        kernel,
    )


def _in_order(
    raw: Array, operator: str, attributes: Mapping[str, Any]
) -> tuple[NDArray[np.int8], tuple[int, ...]]:
    """Weights by group, output and inner position; and the sizes of the kernel."""
    if operator == "Conv":
        groups, (outputs, channels) = attributes.get("group", 1), raw.shape[:2]
        inside = np.moveaxis(raw.reshape(outputs, channels, -1), 1, 2)
        return inside.reshape(groups, outputs // groups, -1), raw.shape[2:]
    turned = raw if operator == "Gemm" and attributes.get("transB") else raw.T
    return turned[None], ()


def _bias(
    main: NodeProto, makers: Mapping[str, NodeProto], constants: Mapping[str, TensorProto]
) -> NDArray[np.int32] | None:
    if len(main.input) < 3 or not main.input[2]:
        return None
    bias: NDArray[np.int32] = onnx.numpy_helper.to_array(
        constants[makers[main.input[2]].input[0]]
    )
    return bias.reshape(-1)


def _read(names: Sequence[str], constants: Mapping[str, TensorProto]) -> list[Array] | None:
    """Scale and zero point, where both are constants."""
    if len(names) != 2 or any(name not in constants for name in names):
        return None
    return [onnx.numpy_helper.to_array(constants[name]) for name in names]


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
