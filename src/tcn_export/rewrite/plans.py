"""Which rewrites run for a target, in what order; and the layouts to choose from."""

from __future__ import annotations

from tcn_export.rewrite.base import Rewrite
from tcn_export.rewrite.conv1d_to_conv2d import Conv1dToConv2d
from tcn_export.rewrite.crop_to_padding import CropToPadding
from tcn_export.rewrite.direct_reads import DirectReads
from tcn_export.rewrite.fold_batch_norm import FoldBatchNorm
from tcn_export.rewrite.merge_pad import MergePad
from tcn_export.rewrite.one_hot_steps import OneHotSteps
from tcn_export.rewrite.pad_channels import PadChannels
from tcn_export.rewrite.split_mean import SplitMean

ONNX: tuple[Rewrite, ...] = (
    MergePad(),
    # After merge_pad: a crop can only take back what the convolution itself pads.
    CropToPadding(),
    # After the crop, which else stands between convolution and normalisation.
    FoldBatchNorm(),
    SplitMean(),
)

STREAM: tuple[Rewrite, ...] = (MergePad(), CropToPadding(), FoldBatchNorm())
"""What every graph goes through, before it becomes a stream: a mean is split no more there."""

PLANS: dict[str, tuple[Rewrite, ...]] = {"onnx": ONNX, "cuda": ONNX, "trt": ONNX}
"""By target: what every graph goes through, before the demand of its outputs is asked."""

LAYOUTS: dict[str, tuple[Rewrite, ...]] = {
    "1d": (),
    "1d-direct": (DirectReads(),),
    "1d-padded": (DirectReads(), PadChannels()),
    "2d": (DirectReads(), Conv1dToConv2d()),
    "2d-padded": (DirectReads(), Conv1dToConv2d(), PadChannels()),
    # After the channels are full: the one-hot convolutions need blocks of them.
    "2d-fused": (DirectReads(), Conv1dToConv2d(), PadChannels(), OneHotSteps()),
}
"""By name: equal functions, of which a runtime computes one faster than another."""
