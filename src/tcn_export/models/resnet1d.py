"""Residual networks over time: a general one with stages, and that of Wang et al. 2017."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from tcn_export.models.blocks import Normalize, ResidualBlock1d, SameConv1d, WangBlock
from tcn_export.models.config import check_dropout, check_size_tuples, check_sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNet1dConfig:
    """Shape of a `ResNet1d`.

    Attributes:
        in_channels: Channels of the signal.
        outputs: Classes, or targets of a regression.
        widths: Channels of each stage; the stem has those of the first.
        strides: Stride with which each stage begins.
        blocks: Residual blocks per stage.
        kernel_size: Taps of the convolutions in the blocks, odd or even.
        stem_kernel: Taps of the first convolution.
        dropout: Probability of dropping a feature in front of the head while training.

    Raises:
        ValueError: A field is out of its range.
    """

    in_channels: int
    outputs: int
    widths: tuple[int, ...] = (32, 48, 64)
    strides: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    kernel_size: int = 5
    stem_kernel: int = 7
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(
            in_channels=self.in_channels,
            outputs=self.outputs,
            kernel_size=self.kernel_size,
            stem_kernel=self.stem_kernel,
        )
        check_size_tuples(widths=self.widths, strides=self.strides, blocks=(self.blocks,))
        if len(self.widths) != len(self.strides):
            raise ValueError(
                f"`widths` has {len(self.widths)} stages and `strides` has "
                f"{len(self.strides)}; they must be equal"
            )
        check_dropout(self.dropout)


class ResNet1d(nn.Module):
    """Maps (batch, in_channels, length) to (batch, outputs): stem, stages, mean, head."""

    def __init__(self, config: ResNet1dConfig) -> None:
        super().__init__()
        self.normalize = Normalize(config.in_channels)
        width = config.widths[0]
        self.stem = nn.Sequential(
            SameConv1d(config.in_channels, width, config.stem_kernel),
            nn.BatchNorm1d(width),
            nn.ReLU(),
        )
        stages = []
        for stage_width, stride in zip(config.widths, config.strides, strict=True):
            stages.append(_stage(config, width, stage_width, stride))
            width = stage_width
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(width, config.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Answer for raw signals ``x``, (batch, in_channels, length)."""
        features: Tensor = self.stages(self.stem(self.normalize(x)))
        answer: Tensor = self.head(self.dropout(features.mean(dim=-1)))
        return answer


def _stage(config: ResNet1dConfig, in_channels: int, width: int, stride: int) -> nn.Sequential:
    stage = nn.Sequential()
    if in_channels != width or stride != 1:
        entry = nn.Conv1d(in_channels, width, 3, stride=stride, padding=1)
        stage.add_module("entry", nn.Sequential(entry, nn.BatchNorm1d(width), nn.ReLU()))
    for i in range(config.blocks):
        stage.add_module(f"block{i}", ResidualBlock1d(width, config.kernel_size))
    return stage


@dataclass(frozen=True, slots=True, kw_only=True)
class WangResNetConfig:
    """Shape of a `WangResNet`; ``widths`` are the filters of its three blocks.

    Raises:
        ValueError: A field is out of its range.
    """

    in_channels: int
    outputs: int
    widths: tuple[int, ...] = (64, 128, 128)

    def __post_init__(self) -> None:
        check_sizes(in_channels=self.in_channels, outputs=self.outputs)
        check_size_tuples(widths=self.widths)


class WangResNet(nn.Module):
    """The ResNet of Wang, Yan and Oates 2017, "Time Series Classification from Scratch".

    (arXiv:1611.06455): three blocks, kernels 8, 5, 3, BatchNorm on the shortcuts, mean over
    time. Maps (batch, in_channels, length) to (batch, outputs).
    """

    def __init__(self, config: WangResNetConfig) -> None:
        super().__init__()
        self.normalize = Normalize(config.in_channels)
        inputs = (config.in_channels, *config.widths)
        self.blocks = nn.Sequential(
            *(WangBlock(inputs[i], width) for i, width in enumerate(config.widths))
        )
        self.head = nn.Linear(config.widths[-1], config.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Answer for raw signals ``x``, (batch, in_channels, length)."""
        features: Tensor = self.blocks(self.normalize(x))
        answer: Tensor = self.head(features.mean(dim=-1))
        return answer
