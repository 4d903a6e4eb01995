"""Which quantised graphs a consumer runs fast and right, and what a calibration may be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

Method = Literal["minmax", "percentile", "entropy", "mse"]
"""How calibration chooses the range of an activation; see `calibration.calibrate`."""

METHODS: tuple[str, ...] = get_args(Method)

Isa = Literal["vnni", "avx2", "arm64"]
"""What decides how a processor multiplies bytes: x86 with VNNI, x86 without it, ARM."""

ISAS: tuple[str, ...] = get_args(Isa)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one consumer wants a Q/DQ graph.

    Attributes:
        name: Recorded in the manifest.
        isa: The processors that it is for; None where it is for none.
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
    isa: Isa | None
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
            "isa": self.isa,
            "activation": self.activation,
            "weight": self.weight,
            "per_channel": self.per_channel,
            "reduce_range": self.reduce_range,
            "symmetric": self.symmetric,
        }


ORT_X86_VNNI = Dialect(
    name="onnxruntime-x86-vnni",
    isa="vnni",
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

ORT_X86_AVX2 = replace(
    ORT_X86_VNNI,
    name="onnxruntime-x86-avx2",
    isa="avx2",
    # VPMADDUBSW adds pairs of products in saturating int16; see `saturation`. With weights of
    # at most 64 a pair is at most 2 * 255 * 64 = 32640, which int16 holds.
    reduce_range=True,
)

ORT_ARM64 = replace(
    ORT_X86_VNNI,
    name="onnxruntime-arm64",
    isa="arm64",
    # The dot products of ARM are s8 by s8 or u8 by u8; for u8 by s8, ONNX Runtime's kernels
    # flip the sign of every activation first. S8S8 is the default of its quantiser. Two
    # products of signed bytes fit int16 while no weight is -128: symmetric weights never are.
    activation="int8",
)

TENSORRT = Dialect(
    name="tensorrt",
    isa=None,
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

_OF_PROCESSORS: dict[Isa, Dialect] = {
    "vnni": ORT_X86_VNNI,
    "avx2": ORT_X86_AVX2,
    "arm64": ORT_ARM64,
}


def dialect_for(target: str, isa: Isa) -> Dialect:
    """The dialect of a target, and of the processors that it runs on where it is a CPU."""
    return TENSORRT if target == "trt" else _OF_PROCESSORS[isa]


def isa_of(machine: str, flags: Collection[str]) -> Isa:
    """What a processor has.

    Args:
        machine: As `platform.machine` spells it.
        flags: Instruction sets, as Linux spells them.

    >>> isa_of("x86_64", ["avx2", "avx512_vnni"])
    'vnni'
    """
    if machine in ("aarch64", "arm64"):
        return "arm64"
    return "vnni" if {"avx_vnni", "avx512_vnni"} & set(flags) else "avx2"
