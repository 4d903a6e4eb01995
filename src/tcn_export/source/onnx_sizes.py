"""How large the values of an ONNX model become, before each of them is computed.

Shape inference knows what follows from the input's shape alone. What a file computes at run
time may ask for more memory than there is; its inputs are at hand then, so its size is too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from tcn_export.errors import UnsupportedModelError
from tcn_export.source.base import MOST_ALIVE, MOST_VALUES

Inputs = Sequence[Any]
Told = Mapping[str, Any]
Watch = Callable[[str, Any], None]
"""Told of a value that was computed: its name, and the array."""
_NONE = np.dtype(np.void)


class BoundedEvaluator(ReferenceEvaluator):
    """ONNX's evaluator that computes nothing too large, and forgets what it needs no more."""

    def answers(self, feeds: Mapping[str, Any], seen: Watch | None = None) -> list[Any]:
        """Compute all outputs; ``seen`` is told of every float value when it is computed.

        Raises:
            UnsupportedModelError: The model asks for too much memory.
        """
        done = self._last_uses()
        values: dict[str, Any] = {"": None, **self.rt_inits_, **feeds}
        given = {id(value) for value in values.values()}
        sizes: dict[str, int] = {}
        for node, last in zip(self.rt_nodes_, done, strict=True):
            inputs = [values[name] for name in node.input]
            alive = sum(sizes.values())
            _check(node, inputs, alive)
            outputs = node.run(*inputs)
            for name, value in zip(node.output, outputs, strict=False):
                values[name] = value
                if isinstance(value, np.ndarray) and id(value) not in given:
                    sizes[name] = value.size
                if seen is not None and name and getattr(value, "dtype", _NONE).kind == "f":
                    seen(name, value)
            for name in last:
                values.pop(name, None)
                sizes.pop(name, None)
        return [values[name] for name in self.output_names]

    def _last_uses(self) -> list[list[str]]:
        """For each node, which values nothing needs any more after it."""
        kept = {"", *self.output_names, *self.input_names, *self.rt_inits_}
        last: dict[str, int] = {}
        for i, node in enumerate(self.rt_nodes_):
            last.update(dict.fromkeys((*node.output, *node.input), i))
        done: list[list[str]] = [[] for _ in self.rt_nodes_]
        for name, i in last.items():
            if name not in kept:
                done[i].append(name)
        return done


def _check(node: Any, inputs: Inputs, alive: int) -> None:
    told = {a.name: onnx.helper.get_attribute_value(a) for a in node.onnx_node.attribute}
    count = _GROWING.get(node.op_type, _joined)
    size = int(count([None if v is None else np.asarray(v) for v in inputs], told))
    if size > MOST_VALUES or size + alive > MOST_ALIVE:
        raise UnsupportedModelError(
            f"`{node.onnx_node.name}` ({node.op_type}) gives up to {size:,} values beside "
            f"{alive:,} others; expected at most {MOST_VALUES:,}, and {MOST_ALIVE:,} "
            "together. Check the file with the tool that wrote it, or export it for shorter "
            "windows."
        )


def _joined(inputs: Inputs, _: Told) -> Any:
    """The largest input, or what they are broadcast to."""
    shapes = [value.shape for value in inputs if value is not None]
    try:
        broadcast = math.prod(np.broadcast_shapes(*shapes))
    except ValueError:
        broadcast = 0
    return max([broadcast, *(math.prod(shape) for shape in shapes)])


def _product(sizes: Any) -> int:
    return math.prod(max(int(n), 1) for n in np.asarray(sizes).ravel())


def _expand(inputs: Inputs, _: Told) -> Any:
    try:
        return math.prod(
            np.broadcast_shapes(inputs[0].shape, tuple(map(int, inputs[1].ravel())))
        )
    except ValueError:
        return 0  # it raises by itself


def _tile(inputs: Inputs, _: Told) -> Any:
    return int(inputs[0].size) * _product(inputs[1])


def _convolved(inputs: Inputs, told: Told) -> Any:
    """Of convolutions and pools: the padded signal, once for each channel that comes out."""
    x = inputs[0].shape
    axes = x[2:]
    pads = list(told.get("pads", [0] * 2 * len(axes)))
    many = math.prod(
        n + max(pads[i], 0) + max(pads[i + len(axes)], 0) for i, n in enumerate(axes)
    )
    weights = inputs[1].shape[0] if len(inputs) > 1 else 1
    return x[0] * many * max(x[1], weights)


def _spread(inputs: Inputs, told: Told) -> Any:
    """Of a transposed convolution: its longest answer."""
    x, w = inputs[0].shape, inputs[1].shape
    ones = [1] * len(w[2:])
    ends = zip(
        x[2:], w[2:], told.get("strides", ones), told.get("dilations", ones),
        told.get("output_padding", [0] * len(ones)), strict=True,
    )  # fmt: skip
    many = math.prod(n * stride + k * dilation + more for n, k, stride, dilation, more in ends)
    wanted = _product(told.get("output_shape", [1]))
    return x[0] * max(many, wanted) * max(x[1], w[1] * told.get("group", 1))


def _range(inputs: Inputs, _: Told) -> Any:
    start, limit, delta = (float(value.ravel()[0]) for value in inputs)
    if not all(map(math.isfinite, (start, limit, delta))) or not delta:
        return MOST_VALUES + 1
    return math.ceil(max((limit - start) / delta, 0))


def _resize(inputs: Inputs, told: Told) -> Any:
    sizes = inputs[3] if len(inputs) > 3 else None
    scales = inputs[2] if len(inputs) > 2 else inputs[-1]
    if sizes is not None and sizes.size:
        shape = np.array(inputs[0].shape, dtype=float)
        axes = list(told.get("axes", range(len(shape))))
        ratios = sizes.astype(float) / np.maximum(shape[axes], 1)
        if told.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
            ratios = np.full_like(ratios, ratios.max())
        shape[axes] = np.ceil(shape[axes] * ratios)
        return int(min(float(np.prod(np.maximum(shape, 1))), 2.0**62))
    grown = scales if scales is not None else np.array(told.get("scales", ()))
    growth = float(np.prod(np.maximum(grown.astype(float), 1)))
    return math.ceil(inputs[0].size * growth) if math.isfinite(growth) else MOST_VALUES + 1


def _pad(inputs: Inputs, told: Told) -> Any:
    pads = inputs[1] if len(inputs) > 1 else np.array(told.get("pads", ()))
    given = inputs[3] if len(inputs) > 3 else None
    shape = list(inputs[0].shape)
    axes = range(len(shape)) if given is None else [int(n) for n in given.ravel()]
    around = [int(n) for n in pads.ravel()]
    for i, axis in enumerate(axes):
        shape[axis] += max(around[i], 0) + max(around[i + len(around) // 2], 0)
    return math.prod(shape)


def _matmul(inputs: Inputs, _: Told) -> Any:
    a, b = inputs[0].shape, inputs[1].shape
    rows = a[-2] if len(a) > 1 else 1
    columns = b[-1] if len(b) > 1 else 1
    try:
        many = math.prod(np.broadcast_shapes(a[:-2], b[:-2]))
    except ValueError:
        return 0  # it raises by itself
    return many * rows * columns


def _gemm(inputs: Inputs, told: Told) -> Any:
    a, b = inputs[0].shape, inputs[1].shape
    return max(a) * max(b) if (told.get("transA") or told.get("transB")) else a[0] * b[-1]


def _gathered(inputs: Inputs, told: Told) -> Any:
    axis = int(told.get("axis", 0))
    return inputs[1].size * math.ceil(inputs[0].size / max(inputs[0].shape[axis], 1))


def _einsum(inputs: Inputs, told: Told) -> Any:
    """What all its letters span: nothing in between is larger."""
    terms = told["equation"].decode().partition("->")[0].replace(" ", "").split(",")
    if any("." in term for term in terms):
        return math.prod(value.size for value in inputs)
    letters: dict[str, int] = {}
    for term, value in zip(terms, inputs, strict=True):
        letters.update(zip(term, value.shape, strict=True))
    kept = told["equation"].decode().partition("->")[2].strip() or "".join(letters)
    return math.prod(letters.get(letter, 1) for letter in set(kept))


def _window(inputs: Inputs, _: Told) -> Any:
    return int(inputs[0].ravel()[0])


def _one_hot(inputs: Inputs, _: Told) -> Any:
    return int(inputs[0].size) * int(inputs[1].ravel()[0])


_GROWING: dict[str, Callable[[Inputs, Told], Any]] = {
    "ConstantOfShape": lambda inputs, _: _product(inputs[0]),
    "Concat": lambda inputs, _: sum(value.size for value in inputs),
    "Einsum": _einsum,
    "Expand": _expand,
    "Gather": _gathered,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "NonZero": lambda inputs, _: inputs[0].size * max(inputs[0].ndim, 1),
    "OneHot": _one_hot,
    "Pad": _pad,
    "Range": _range,
    "Resize": _resize,
    "Tile": _tile,
    "Upsample": _resize,
    "ConvTranspose": _spread,
    **dict.fromkeys(("AveragePool", "Conv", "LpPool", "MaxPool"), _convolved),
    **dict.fromkeys(("BlackmanWindow", "HammingWindow", "HannWindow"), _window),
}
