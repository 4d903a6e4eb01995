"""The temporal convolutional network: a stack of causal, dilated, residual blocks and a head.

After Bai, Kolter and Koltun 2018, "An Empirical Evaluation of Generic Convolutional and
Recurrent Networks for Sequence Modeling" (arXiv:1803.01271), with BatchNorm as a second choice
of norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from tcn_export.models.blocks import CausalPadding, Norm, Normalize, TemporalBlock
from tcn_export.models.config import (
    check_choice,
    check_dropout,
    check_size_tuples,
    check_sizes,
)

Head = Literal["last", "every", "mean"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TCNConfig:
    """Shape of a `TCN`.

    Attributes:
        in_channels: Channels of the signal.
        outputs: Classes, or targets of a regression (channels times horizon of a forecast).
        widths: Channels of each block, first to last.
        dilations: Dilation of each block.
        kernel_size: Taps of every convolution.
        convolutions: One or two per block.
        norm: ``batch``, ``weight`` or ``none``.
        dropout: Probability of dropping a value after each ReLU while training.
        head: ``last`` answers from the last step, ``mean`` from the average over time,
            ``every`` once per step.
        causal_padding: ``left`` pads the past, ``crop`` pads both sides and cuts the future
            off.

    Raises:
        ValueError: A field is out of its range.
    """

    in_channels: int
    outputs: int
    widths: tuple[int, ...]
    dilations: tuple[int, ...]
    kernel_size: int = 3
    convolutions: int = 1
    norm: Norm = "batch"
    dropout: float = 0.0
    head: Head = "last"
    causal_padding: CausalPadding = "left"

    def __post_init__(self) -> None:
        check_sizes(
            in_channels=self.in_channels, outputs=self.outputs, kernel_size=self.kernel_size
        )
        check_size_tuples(widths=self.widths, dilations=self.dilations)
        if len(self.widths) != len(self.dilations):
            raise ValueError(
                f"`widths` has {len(self.widths)} blocks and `dilations` has "
                f"{len(self.dilations)}; they must be equal"
            )
        if type(self.convolutions) is not int or self.convolutions not in (1, 2):
            raise ValueError(f"`convolutions` (={self.convolutions}) must be 1 or 2")
        check_choice("norm", self.norm, get_args(Norm))
        check_choice("head", self.head, get_args(Head))
        check_choice("causal_padding", self.causal_padding, get_args(CausalPadding))
        check_dropout(self.dropout)


class TCN(nn.Module):
    """Maps (batch, in_channels, length) to (batch, outputs), or (batch, outputs, length)."""

    def __init__(self, config: TCNConfig) -> None:
        super().__init__()
        self.normalize = Normalize(config.in_channels)
        inputs = (config.in_channels, *config.widths)
        self.blocks = nn.Sequential(
            *(
                TemporalBlock(
                    inputs[i],
                    config.widths[i],
                    config.kernel_size,
                    dilation,
                    convolutions=config.convolutions,
                    norm=config.norm,
                    dropout=config.dropout,
                    causal_padding=config.causal_padding,
                )
                for i, dilation in enumerate(config.dilations)
            )
        )
        self.reads: Head = config.head
        width = config.widths[-1]
        # A 1x1 convolution is the linear layer of every step, without transposing time away.
        self.head = (
            nn.Conv1d(width, config.outputs, 1)
            if config.head == "every"
            else nn.Linear(width, config.outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Answer for raw signals ``x``, (batch, in_channels, length)."""
        hidden: Tensor = self.blocks(self.normalize(x))
        if self.reads == "last":
            hidden = hidden[:, :, -1]
        elif self.reads == "mean":
            hidden = hidden.mean(dim=-1)
        answer: Tensor = self.head(hidden)
        return answer
