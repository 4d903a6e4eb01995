"""The deep learning accelerator of a Jetson: what of a graph it can run, and what falls back.

Limits: NVIDIA's page "DLA Supported Layers and Restrictions" (Jetson and DriveOS). The builder
tells of a fallback in its log only; here it is told before anything is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from tcn_export.errors import UnsupportedModelError, UsageError
from tcn_export.targets.tensorrt.lint import Finding
from tcn_export.targets.tensorrt.versions import Version

_SUPPORTED = frozenset({
    "Conv", "ConvTranspose", "Relu", "Sigmoid", "Tanh", "Clip", "LeakyRelu", "PRelu", "Add",
    "Sub", "Mul", "Div", "Max", "Min", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat",
})  # fmt: skip
_LIMITS = {"kernel_shape": (1, 32), "dilations": (1, 32), "strides": (1, 8), "pads": (0, 31)}
_NO_KERNELS = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "Unsqueeze", "Squeeze"})
"""They cost no kernel of their own: types and layouts of the kernels around them."""


def fallbacks(model: ir.Model, precision: str = "float16") -> tuple[Finding, ...]:
    """Nodes that the accelerator cannot run, and why."""
    found = []
    for node in model.graph:
        reason = _reason(node)
        kind = node.outputs[0].dtype
        if reason is None and precision == "float16" and _is_single(node, kind):
            reason = "computes in float32; the accelerator has float16 and int8 only"
        if reason is not None:
            found.append(Finding(node.name or "?", node.op_type, reason))
    return tuple(found)


def check(
    model: ir.Model,
    version: Version,
    precision: str,
    profiles: Mapping[str, Sequence[Sequence[int]]],
    gpu_fallback: bool,
) -> tuple[Finding, ...]:
    """The nodes that will fall back to the GPU.

    Raises:
        UsageError: The version, the precision or the shapes exclude the accelerator.
        UnsupportedModelError: Nodes would fall back, and that is not allowed.
    """
    if version.dla is None:
        raise UsageError(
            f"TensorRT {version.name} ({version.found_in}) does not support the accelerator. "
            "Leave --dla-core out, or choose --trt-version 10.3."
        )
    if precision == "float32":
        raise UsageError(
            "the accelerator computes in float16 and int8 only: give --precision float16."
        )
    if precision == "int8" and not version.explicit_int8_on_dla:
        raise UsageError(
            f"the accelerator under TensorRT {version.name} takes no Q/DQ nodes: give "
            "--precision float16, or --trt-version 11."
        )
    for name, (smallest, _, largest) in profiles.items():
        if list(smallest) != list(largest):
            raise UsageError(
                f"the accelerator takes one shape only, but `{name}` goes from {smallest} to "
                f"{largest}. Give --trt-batch 1, and a fixed --length."
            )
    found = fallbacks(model, precision)
    if found and not gpu_fallback:
        lines = "; ".join(map(str, found[:5]))
        raise UnsupportedModelError(
            f"{len(found)} nodes cannot run on the accelerator: {lines}. Allow them to run on "
            "the GPU with --gpu-fallback."
        )
    return found


def _is_single(node: ir.Node, kind: ir.DataType | None) -> bool:
    return node.op_type not in _NO_KERNELS and kind == ir.DataType.FLOAT


def _reason(node: ir.Node) -> str | None:
    if node.op_type in _NO_KERNELS:
        return None
    if node.op_type not in _SUPPORTED:
        return "is no layer of the accelerator"
    if node.op_type in ("Conv", "ConvTranspose"):
        return _convolution(node)
    return None


def _convolution(node: ir.Node) -> str | None:
    weight = node.inputs[1]
    if weight is not None and weight.shape is not None and len(weight.shape) == 3:
        return "has one spatial axis; the accelerator takes two. Give --layout 2d"
    for name, (low, high) in _LIMITS.items():
        values = node.attributes.get_ints(name, [])
        outside = [value for value in values if not low <= value <= high]
        if outside:
            return f"has {name} {list(values)}; the accelerator takes {low} to {high}"
    return None
