"""Which rewrites run for a target, and in what order."""

from __future__ import annotations

from tcn_export.rewrite.base import Rewrite
from tcn_export.rewrite.conv1d_to_conv2d import Conv1dToConv2d
from tcn_export.rewrite.crop_to_padding import CropToPadding
from tcn_export.rewrite.fold_batch_norm import FoldBatchNorm
from tcn_export.rewrite.merge_pad import MergePad
from tcn_export.rewrite.split_mean import SplitMean

ONNX: tuple[Rewrite, ...] = (
    MergePad(),
    # After merge_pad: a crop can only take back what the convolution itself pads.
    CropToPadding(),
    # After the crop, which else stands between convolution and normalisation.
    FoldBatchNorm(),
    SplitMean(),
)

PLANS: dict[str, tuple[Rewrite, ...]] = {
    "onnx": ONNX,
    "cuda": ONNX,
    "trt": ONNX,
    "trt-2d": (*ONNX, Conv1dToConv2d()),
}
"""By target, and by layout where a target has several."""
