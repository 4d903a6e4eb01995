"""Which quantised graphs a consumer runs fast and right, and what a calibration may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

Method = Literal["minmax", "percentile", "entropy", "mse"]
"""How calibration chooses the range of an activation; see `calibration.calibrate`."""

METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one consumer wants a Q/DQ graph.

    Attributes:
        name: Recorded in the manifest.
        activation: Integer type of the values between layers.
        weight: Integer type of the weights.
        per_channel: One weight scale per output channel.
        reduce_range: Weights use 7 bits only, for consumers that add products in 16 bits.
        operators: Operators whose inputs and outputs are quantised. Sub and Mul are not among
            them: raw sensor values keep full precision through the input normalisation.
        newest_opset: The newest operator set whose QuantizeLinear the consumer has kernels
            for.
        symmetric: The zero point of every activation is 0.
        float_bias: Biases stay float32; else they become int32.
        inputs_only: Quantise what the operators read, not what they give: so nothing stands
            between a convolution and its activation, and each reader has a Q/DQ pair of its
            own.
    """

    name: str
    activation: Literal["uint8", "int8"]
    weight: Literal["int8"]
    per_channel: bool
    reduce_range: bool
    operators: tuple[str, ...]
    newest_opset: int
    symmetric: bool = False
    float_bias: bool = False
    inputs_only: bool = False

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest."""
        return {
            "dialect": self.name,
            "activation": self.activation,
            "weight": self.weight,
            "per_channel": self.per_channel,
            "reduce_range": self.reduce_range,
            "symmetric": self.symmetric,
        }


ORT_X86_VNNI = Dialect(
    name="onnxruntime-x86-vnni",
    # int8 activations run 2 to 6 times slower: the processor's dot product is u8 by s8.
    activation="uint8",
    weight="int8",
    per_channel=True,
    reduce_range=False,
    # Relu and Add too, so that a residual block stays in integers from end to end.
    operators=(
        "Conv",
        "Gemm",
        "MatMul",
        "Add",
        "Relu",
        "Gather",
        "Slice",
        "MaxPool",
        "AveragePool",
    ),
    # ONNX Runtime has no kernel for QuantizeLinear of operator version 23 (its issue 25932).
    newest_opset=20,
)

TENSORRT = Dialect(
    name="tensorrt",
    # Signed, zero point 0, float bias: NVIDIA's parser refuses everything else.
    activation="int8",
    weight="int8",
    per_channel=True,
    reduce_range=False,
    # Q/DQ on both inputs of a residual addition, so that Conv+Add+Relu stays in integers. The
    # head stays in float: it is tiny, and the answers are most sensitive there. So do biases
    # and offsets: of additions, those of two computed values only.
    operators=("Conv", "Add"),
    newest_opset=20,
    symmetric=True,
    float_bias=True,
    inputs_only=True,
)

DIALECTS: dict[str, Dialect] = {"onnx": ORT_X86_VNNI, "trt": TENSORRT}
"""The dialect of each target that computes in integers."""
