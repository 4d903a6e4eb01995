"""Operators that ONNX's own evaluator computes very slowly, or not as they are needed here.

The evaluator is the standard's definition of every operator, in plain numpy and in the
precision of its inputs, but for few; it is what an ONNX file is taken at. Its convolution
takes a minute where PyTorch's takes a second. What these do not cover goes to its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_average_pool import AveragePool_19
from onnx.reference.ops.op_conv import Conv as SlowConv
from onnx.reference.ops.op_conv_transpose import ConvTranspose as SlowConvTranspose
from onnx.reference.ops.op_max_pool import MaxPool as SlowMaxPool
from torch import Tensor
from torch.nn import functional

Array = NDArray[Any]

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


class Conv(SlowConv):  # type: ignore[misc]
    """``Conv`` by PyTorch, in the precision of its inputs."""

    op_domain = ""

    def _run(self, x: Array, w: Array, b: Array | None = None, **told: Any) -> tuple[Array]:
        axes = w.ndim - 2
        if axes not in _CONVOLUTIONS or told["auto_pad"] not in (None, "", "NOTSET", "VALID"):
            return super()._run(x, w, b, **told)  # type: ignore[no-any-return]
        pads = told["pads"] if told["auto_pad"] != "VALID" else None
        y = _CONVOLUTIONS[axes](
            functional.pad(_tensor(x), _around(pads or [0] * 2 * axes)),
            _tensor(w),
            None if b is None else _tensor(b),
            stride=list(told["strides"] or [1] * axes),
            dilation=list(told["dilations"] or [1] * axes),
            groups=told["group"] or 1,
        )
        return (y.numpy(),)


class ConvTranspose(SlowConvTranspose):  # type: ignore[misc]
    """``ConvTranspose`` by PyTorch, in the precision of its inputs."""

    op_domain = ""

    def _run(self, x: Array, w: Array, b: Array | None = None, **told: Any) -> tuple[Array]:
        axes = w.ndim - 2
        strides = list(told["strides"] or [1] * axes)
        dilations = list(told["dilations"] or [1] * axes)
        more = list(told["output_padding"] or [0] * axes)
        is_plain = told["auto_pad"] in (None, "", "NOTSET") and not told["output_shape"]
        fits = all(m < max(s, d) for m, s, d in zip(more, strides, dilations, strict=True))
        if axes not in _TRANSPOSED or not is_plain or not fits:
            return super()._run(x, w, b, **told)  # type: ignore[no-any-return]
        y = _TRANSPOSED[axes](
            _tensor(x),
            _tensor(w),
            None if b is None else _tensor(b),
            stride=strides,
            output_padding=more,
            groups=told["group"] or 1,
            dilation=dilations,
        )
        cropped = [-n for n in told["pads"] or [0] * 2 * axes]
        return (functional.pad(y, _around(cropped)).numpy(),)


class AveragePool(AveragePool_19):  # type: ignore[misc]
    """``AveragePool`` over one axis by PyTorch, in the precision of its input."""

    op_domain = ""

    def _run(self, x: Array, **told: Any) -> tuple[Array]:
        pads = list(told["pads"] or [0, 0])
        is_plain = (
            x.ndim == 3
            and told["auto_pad"] in (None, "", "NOTSET")
            and not told["ceil_mode"]
            and list(told.get("dilations") or [1]) == [1]
            and (bool(told["count_include_pad"]) or pads == [0, 0])
        )
        if not is_plain:
            return super()._run(x, **{"dilations": None, **told})  # type: ignore[no-any-return]
        padded = functional.pad(_tensor(x), pads)
        (size,), (stride,) = told["kernel_shape"], told["strides"] or [1]
        return (functional.avg_pool1d(padded, size, stride).numpy(),)


class MaxPool(SlowMaxPool):  # type: ignore[misc]
    """``MaxPool`` over one axis by PyTorch; with padding and a stride of 1 its own raises."""

    op_domain = ""

    def _run(self, x: Array, **told: Any) -> tuple[Array, ...]:
        is_plain = (
            x.ndim == 3
            and told["auto_pad"] in (None, "", "NOTSET")
            and not told["ceil_mode"]
            and x.dtype.kind == "f"
            and len([name for name in self.output if name]) == 1
        )
        if not is_plain:
            return super()._run(x, **told)  # type: ignore[no-any-return]
        padded = functional.pad(_tensor(x), list(told["pads"] or [0, 0]), value=-np.inf)
        (size,), (stride,) = told["kernel_shape"], told["strides"] or [1]
        (dilation,) = told["dilations"] or [1]
        pooled = functional.max_pool1d(padded, size, stride, dilation=dilation)
        return (pooled.numpy(),)


class GlobalMaxPool(OpRun):
    """``GlobalMaxPool`` that keeps its axes; the evaluator's own drops those of one value."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class BatchNormalization(OpRun):
    """``BatchNormalization`` with its own statistics, in the precision of its input.

    Before operator set 14 the evaluator takes those of the batch, as in training.
    """

    op_domain = ""

    def _run(
        self,
        x: Array,
        scale: Array,
        bias: Array,
        mean: Array,
        variance: Array,
        epsilon: float | None = None,
        **_: Any,
    ) -> tuple[Array]:
        shape = (-1, *[1] * (x.ndim - 2))
        centred = x - mean.reshape(shape)
        # numpy would keep float32; the attribute itself is one, whatever computes with it.
        spread = np.sqrt(variance + np.asarray(epsilon, x.dtype)).reshape(shape)
        return (scale.reshape(shape) * centred / spread + bias.reshape(shape),)


class Erf(OpRun):
    """``Erf`` in the precision of its input; the evaluator's own rounds to float32."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (torch.erf(_tensor(x)).numpy(),)


class Gelu(OpRun):
    """``Gelu`` in the precision of its input; the evaluator's own goes by its ``Erf``."""

    op_domain = ""

    def _run(self, x: Array, approximate: str | None = None) -> tuple[Array]:
        return (functional.gelu(_tensor(x), approximate=approximate or "none").numpy(),)


KERNELS: list[Any] = [
    Conv, ConvTranspose, AveragePool, MaxPool, GlobalMaxPool, BatchNormalization, Erf, Gelu,
]  # fmt: skip


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _around(pads: Sequence[int]) -> list[int]:
    """ONNX's pads (all begins, all ends) as PyTorch's (last axis first)."""
    axes = len(pads) // 2
    return [n for i in reversed(range(axes)) for n in (pads[i], pads[i + axes])]
