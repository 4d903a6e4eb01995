"""What a bundle is timed on: the one window of its golden data, in the size asked for."""

from __future__ import annotations

import math

import numpy as np

from tcn_export.bundle import Bundle
from tcn_export.data import Array
from tcn_export.errors import UsageError
from tcn_export.graph import BATCH, LENGTH, Dimension, TensorSpec
from tcn_export.targets.base import check_feeds
from tcn_export.targets.streamed import chunks
from tcn_export.verification import read_golden

_MOST_VALUES = 2**28
"""Of one input; in float32 that is a gibibyte."""


def timed_feeds(bundle: Bundle, batch: int = 1, length: int | None = None) -> dict[str, Array]:
    """Repeat and cut the window to so many windows of so many steps.

    Args:
        bundle: Whose golden data hold the window.
        batch: Windows per call.
        length: Steps per window; None as they are.

    Raises:
        UsageError: The bundle fixes what was asked for, or the call would be too large.
        BundleError: There is no such window.
    """
    signature, inputs = bundle.manifest.signature, read_golden(bundle).single.inputs
    if bundle.manifest.mode == "stream":
        inputs = chunks(signature, inputs, 0)
    check_feeds(signature, inputs)
    sizes: dict[Dimension, int] = {BATCH: batch}
    if length is not None:
        sizes[LENGTH] = length
    feeds = {}
    for spec in signature.inputs:
        window = inputs[spec.name]
        shape = [
            sizes.get(symbol, n) for symbol, n in zip(spec.shape, window.shape, strict=True)
        ]
        _check_shape(bundle, spec, shape, batch, length)
        for axis, size in enumerate(shape):
            window = np.take(window, np.arange(size) % window.shape[axis], axis)
        feeds[spec.name] = np.ascontiguousarray(window)
    return feeds


def _check_shape(
    bundle: Bundle, spec: TensorSpec, shape: list[int], batch: int, length: int | None
) -> None:
    if batch != 1 and BATCH not in spec.shape:
        raise UsageError(
            f"`{spec.name}` of {bundle.path} takes one window per call. Leave --batch out."
        )
    fixed = None if spec.time_axis is None else shape[spec.time_axis]
    if length is not None and LENGTH not in spec.shape and length != fixed:
        told = ", ".join(map(str, spec.shape))
        raise UsageError(
            f"`{spec.name}` of {bundle.path} has the shape ({told}), so its windows cannot "
            f"have {length} steps. Leave --length out, or export with --length dynamic."
        )
    if math.prod(shape) > _MOST_VALUES:
        raise UsageError(
            f"{' x '.join(map(str, shape))} values are more than one call should take. Give a "
            "smaller --batch or --length."
        )
