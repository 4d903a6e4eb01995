"""The TensorRT dialect: what NVIDIA's parser or builder would refuse, found by us first.

Every finding names a node, says what is wrong and what to do. Some rules are stricter than the
parser: what TensorRT's documentation excludes but its parser lets through fails later, on some
device, without a word about the cause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from tcn_export.errors import UnsupportedModelError
from tcn_export.targets.tensorrt.versions import Version

_NO_KERNEL = frozenset({
    "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear",
})  # fmt: skip
_CONVOLUTIONS = {"Conv": 0, "ConvTranspose": 1}
"""Axis of the output channels in the weights of each."""
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """A node that TensorRT does not take as it is."""

    node: str
    operator: str
    message: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.operator} `{self.node}` {self.message}"


Rule = Callable[[ir.Node], str | None]


def lint(
    model: ir.Model, version: Version, profiles: Mapping[str, Sequence[Sequence[int]]]
) -> tuple[Finding, ...]:
    """Everything in a graph that a version of TensorRT does not take.

    Args:
        model: The graph, with inferred types.
        version: The version that will read it.
        profiles: Smallest, usual and largest shape of inputs with symbols.
    """
    found = [*_check_opset(model, version), *_check_profiles(model, profiles)]
    for node in model.graph:
        for rule in _RULES:
            message = rule(node)
            if message is not None:
                found.append(Finding(node.name or "?", node.op_type, message))
    return tuple(found)


def require_clean(findings: Iterable[Finding], version: Version) -> None:
    """Raise `UnsupportedModelError` that names the findings, if there are any."""
    lines = [str(finding) for finding in findings]
    if not lines:
        return
    more = f"; and {len(lines) - _MOST_NAMED} more" if len(lines) > _MOST_NAMED else ""
    raise UnsupportedModelError(
        f"TensorRT {version.name} ({version.found_in}) does not take this graph: "
        f"{'; '.join(lines[:_MOST_NAMED])}{more}."
    )


def _check_opset(model: ir.Model, version: Version) -> list[Finding]:
    opset = model.opset_imports.get("", 0)
    if opset <= version.newest_opset:
        return []
    message = (
        f"is of operator set {opset}; the parser knows {version.newest_opset} and older. "
        f"Export with --opset {version.newest_opset}"
    )
    return [Finding(model.graph.name or "graph", "the model", message)]


def _check_profiles(
    model: ir.Model, profiles: Mapping[str, Sequence[Sequence[int]]]
) -> list[Finding]:
    found = []
    for value in model.graph.inputs:
        shape = list(value.shape or ())
        is_dynamic = not all(isinstance(size, int) for size in shape)
        given = profiles.get(value.name or "")
        if is_dynamic and given is None:
            message = f"has the shape {shape} and no profile says how large it can be"
        elif given is not None and not _fits(shape, given):
            message = f"has the shape {shape}, which its profile {given} does not fit"
        else:
            continue
        found.append(Finding(value.name or "?", "the input", message))
    return found


def _fits(shape: Sequence[object], profile: Sequence[Sequence[int]]) -> bool:
    if any(len(sizes) != len(shape) for sizes in profile):
        return False
    ordered = all(low <= usual <= high for low, usual, high in zip(*profile, strict=True))
    fixed = all(
        size == want
        for sizes in profile
        for size, want in zip(sizes, shape, strict=True)
        if isinstance(want, int)
    )
    return ordered and fixed


def _subgraph(node: ir.Node) -> str | None:
    if any(
        a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
        for a in node.attributes.values()
    ):
        return "holds a graph of its own, which this lint does not look into"
    return None


def _operator(node: ir.Node) -> str | None:
    if node.domain not in ("", "ai.onnx"):
        return f"is of the domain {node.domain}, which only ONNX Runtime knows"
    if node.op_type in _NO_KERNEL:
        return "has no kernel in TensorRT. Quantise with QuantizeLinear and DequantizeLinear"
    return None


def _is_qdq(node: ir.Node) -> bool:
    return node.op_type in ("QuantizeLinear", "DequantizeLinear")


def _quantised_type(node: ir.Node) -> str | None:
    if not _is_qdq(node):
        return None
    integer = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    kind = None if integer is None else integer.dtype
    if kind == ir.DataType.INT32:
        return "dequantises an int32 bias, which the parser refuses. Leave the bias in float32"
    if kind not in (ir.DataType.INT8, ir.DataType.UINT8):
        return f"uses {kind.name if kind else 'an unknown type'}; TensorRT takes int8"
    if kind == ir.DataType.UINT8:
        return "uses uint8; TensorRT takes signed int8 with zero point 0"
    return None


def _zero_point(node: ir.Node) -> str | None:
    if not _is_qdq(node) or len(node.inputs) < 3 or node.inputs[2] is None:
        return None
    zero_point = _array(node.inputs[2])
    if zero_point is None:
        return "computes its zero point at run time; TensorRT takes the constant 0"
    if zero_point.any():
        worst = zero_point.reshape(-1)[np.abs(zero_point.astype(np.int64)).argmax()]
        return f"has the zero point {worst}; TensorRT takes 0. Quantise symmetrically"
    return None


def _scale(node: ir.Node) -> str | None:
    if not _is_qdq(node):
        return None
    scale = _array(node.inputs[1])
    if scale is None:
        return "computes its scale at run time; TensorRT takes a constant"
    if scale.dtype != np.float32:
        return f"has a scale in {scale.dtype}; float32 is what builds on every device"
    if not (scale > 0).all() or not np.isfinite(scale).all():
        return "has a scale that is not positive"
    return None


def _granularity(node: ir.Node) -> str | None:
    if not _is_qdq(node):
        return None
    scale = _array(node.inputs[1])
    if scale is None or scale.size == 1:
        return None
    data = node.inputs[0]
    is_weight = data is not None and _is_constant(data)
    if not is_weight:
        return "has one scale per channel of an activation; TensorRT takes one for all"
    axis = node.attributes.get_int("axis", 1)
    for user in _users(node):
        wanted = _CONVOLUTIONS.get(user.op_type)
        if wanted is not None and axis != wanted:
            return (
                f"scales the weights of `{user.name}` along axis {axis}; TensorRT takes the "
                f"output channels, axis {wanted}"
            )
    return None


def _users(node: ir.Node) -> list[ir.Node]:
    """Who reads a node, seen through the pair of a Q and a DQ."""
    direct = [use.node for use in node.outputs[0].uses()]
    through = [use.node for n in direct if _is_qdq(n) for use in n.outputs[0].uses()]
    return [*direct, *through]


def _mixed_types(node: ir.Node) -> str | None:
    if node.op_type not in (*_CONVOLUTIONS, "Gemm", "MatMul", "Add", "Sub", "Mul", "Div"):
        return None
    kinds = {v.dtype for v in node.inputs if v is not None and v.dtype is not None}
    if len(kinds) <= 1:
        return None
    names = " and ".join(sorted(kind.name for kind in kinds))
    return f"mixes {names}; all inputs must be of one type. Cast one of them"


def _one_sided(node: ir.Node) -> str | None:
    if node.op_type not in _CONVOLUTIONS:
        return None
    sides = [_is_dequantised(value) for value in node.inputs[:2]]
    if any(sides) and not all(sides):
        what = "weights" if sides[0] else "input"
        return f"is quantised on one side only: its {what} are float. Quantise both or none"
    return None


def _behind_pad(node: ir.Node) -> str | None:
    if node.op_type != "Conv" or not _is_dequantised(node.inputs[0]):
        return None
    source = node.inputs[0]
    for _ in range(2):  # DQ, Q
        producer = source.producer() if source is not None else None
        source = producer.inputs[0] if producer is not None else None
    pad = source.producer() if source is not None else None
    if pad is not None and pad.op_type == "Pad":
        return (
            f"reads `{pad.name}` through Q/DQ, so that the pad stays a kernel of its own. "
            "Use the convolution's own pads"
        )
    return None


def _is_dequantised(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _is_constant(value: ir.Value) -> bool:
    """Whether a value is an initialiser, also behind a Q."""
    producer = value.producer()
    if producer is not None and producer.op_type == "QuantizeLinear":
        first = producer.inputs[0]
        return first is not None and _is_constant(first)
    return _array(value) is not None


def _array(value: ir.Value | None) -> np.ndarray | None:
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    array: np.ndarray = value.const_value.numpy()
    return array


_RULES: tuple[Rule, ...] = (
    _subgraph,
    _operator,
    _quantised_type,
    _zero_point,
    _scale,
    _granularity,
    _mixed_types,
    _one_sided,
    _behind_pad,
)
