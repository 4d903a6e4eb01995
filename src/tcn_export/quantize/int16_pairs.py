"""Sums of u8 * s8 products as x86 computes them without VNNI: in pairs, in saturating int16.

VPMADDUBSW multiplies unsigned by signed bytes and adds each two neighbouring products into
one int16, which stops at its limits; VPMADDWD then adds those in int32, which holds them.
VNNI's VPDPBUSD adds four products in int32 at once.

Which two are neighbours: ONNX Runtime's kernels (`QgemmU8S8KernelAvx2`, `ConvSymKernelAvx2`
and their AVX-512 forms in MLAS) pack four values of the inner dimension side by side, from the
first one on, and fill up with zeros. Blocks are multiples of four, so pairs do not depend on
them. The zero point is not taken off before, but from the sum, in int32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.int8]
Columns = NDArray[np.uint8]

LOWEST, HIGHEST = -(2**15), 2**15 - 1
_BYTE = 255
_EXACT = 2**24
"""float32 holds all integers up to here, so a product of matrices of floats is exact."""


def multiply(weights: Weights, columns: Columns) -> NDArray[np.int32]:
    """The sums as VNNI has them: (batch, outputs, positions).

    Args:
        weights: (outputs, inner), in the order in which the kernel adds.
        columns: (batch, inner, positions).
    """
    reach = _BYTE * int(np.abs(weights.astype(np.int64)).sum(axis=1).max(initial=0))
    exact = np.float32 if reach < _EXACT else np.float64
    product: NDArray[Any] = weights.astype(exact) @ columns.astype(exact)
    return product.astype(np.int32)


def excess(weights: Weights, columns: Columns) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """What saturation takes from the sums of `multiply`, and which of them it hits."""
    shape = len(columns), len(weights), columns.shape[2]
    taken, hit = np.zeros(shape, np.int32), np.zeros(shape, bool)
    first, second = _halves(weights, axis=1)
    left, right = _halves(columns, axis=1)
    most = [half.max(axis=(0, 2), initial=0) for half in (left, right)]
    highest, lowest = _limits(first, second, *most)
    can = (highest > HIGHEST) | (lowest < LOWEST)
    for pair in np.flatnonzero(can.any(axis=0)):
        outputs = np.flatnonzero(can[:, pair])
        added = (
            first[outputs, pair, None] * left[:, None, pair]
            + second[outputs, pair, None] * right[:, None, pair]
        )
        beyond = added - np.clip(added, LOWEST, HIGHEST)
        taken[:, outputs] += beyond
        hit[:, outputs] |= beyond != 0
    return taken, hit


def may_saturate(weights: Weights) -> bool:
    """Whether any activations at all could make a pair saturate; weights as `multiply` has."""
    highest, lowest = _limits(*_halves(weights, axis=1), _BYTE, _BYTE)
    return bool((highest > HIGHEST).any() or (lowest < LOWEST).any())


def _limits(first: Any, second: Any, left: Any, right: Any) -> tuple[Any, Any]:
    """The highest and the lowest that pairs reach, for activations from 0 to those given."""
    highest = np.maximum(first, 0) * left + np.maximum(second, 0) * right
    return highest, np.minimum(first, 0) * left + np.minimum(second, 0) * right


def _halves(values: NDArray[Any], axis: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The first and the second of every pair along an axis; a last one alone has a zero."""
    odd = values.shape[axis] % 2
    widths = [(0, odd if i == axis else 0) for i in range(values.ndim)]
    wide = np.moveaxis(np.pad(values.astype(np.int32), widths), axis, 0)
    return np.moveaxis(wide[0::2], 0, axis), np.moveaxis(wide[1::2], 0, axis)
