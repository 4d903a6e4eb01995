"""Building blocks: input normalisation, causal and "same" convolutions, residuals.

Every block maps (batch, channels, length) to (batch, channels, length).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.parametrizations import weight_norm

Norm = Literal["batch", "weight", "none"]
CausalPadding = Literal["left", "crop"]


class Normalize(nn.Module):
    """Scale each channel of the raw signal: ``y = (x - mean) * scale``.

    The first layer of every network here, so that an exported artifact takes raw sensor values
    and the preprocessing cannot be lost on the way to the device. The constants are buffers:
    they are fitted once, on the training windows, and never trained.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1))
        self.register_buffer("scale", torch.ones(channels, 1))

    def fit(self, x: Tensor) -> None:
        """Take mean and deviation per channel from ``x`` (windows, channels, length).

        Computed in double precision; a channel that never changes keeps its scale of 1.
        """
        wide = x.double()
        mean = wide.mean(dim=(0, 2))
        deviation = wide.std(dim=(0, 2), correction=0)
        constant = deviation <= 1e-7 * mean.abs().clamp(min=1e-30)
        scale = torch.where(constant, torch.ones_like(deviation), 1 / deviation)
        self.mean.copy_(mean[:, None])
        self.scale.copy_(scale[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x``, (batch, channels, length)."""
        return (x - self.mean) * self.scale


class SameConv1d(nn.Conv1d):
    """A convolution that keeps the length, for odd and even kernels.

    ``padding=kernel_size // 2`` lengthens the signal by one step where the kernel is even and
    so breaks a residual. As Keras does, the odd step of an even kernel goes to the right.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        odd = kernel_size % 2 == 1
        super().__init__(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2 if odd else 0
        )
        self.sides = None if odd else ((kernel_size - 1) // 2, kernel_size // 2)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``input``, (batch, in_channels, length)."""
        return super().forward(input if self.sides is None else pad(input, self.sides))


class CausalConv1d(nn.Conv1d):
    """A dilated convolution that sees no future: ``y[t] = sum_k w[k] x[t - d*k]``.

    Two spellings of the same function. ``left`` pads the past with zeros; ``crop`` pads both
    sides and cuts the future off, as Bai et al. 2018 (arXiv:1803.01271) do.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dilation: int = 1,
        causal_padding: CausalPadding = "left",
    ) -> None:
        reach = (kernel_size - 1) * dilation
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            dilation=dilation,
            padding=reach if causal_padding == "crop" else 0,
        )
        self.reach = reach
        self.crops = causal_padding == "crop"

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``input``, (batch, in_channels, length)."""
        if self.reach == 0:  # [:-0] would cut everything off
            return super().forward(input)
        if self.crops:
            return super().forward(input)[:, :, : -self.reach]
        return super().forward(pad(input, (self.reach, 0)))


class TemporalBlock(nn.Module):
    """One or two causal convolutions, each with norm, ReLU and dropout, around a residual.

    ``relu(f(x) + shortcut(x))``; the shortcut is a 1x1 convolution where the channels differ.
    Dropout drops whole channels, as in Bai et al. 2018, section 3.3.
    Weight normalisation: Salimans and Kingma 2016 (arXiv:1602.07868).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dilation: int,
        *,
        convolutions: int = 1,
        norm: Norm = "batch",
        dropout: float = 0.0,
        causal_padding: CausalPadding = "left",
    ) -> None:
        super().__init__()
        layers: list[tuple[str, nn.Module]] = []
        channels = in_channels
        for i in range(1, convolutions + 1):
            conv = CausalConv1d(channels, out_channels, kernel_size, dilation, causal_padding)
            layers.append((f"conv{i}", weight_norm(conv) if norm == "weight" else conv))
            if norm == "batch":
                layers.append((f"norm{i}", nn.BatchNorm1d(out_channels)))
            layers.append((f"relu{i}", nn.ReLU()))
            if dropout:
                layers.append((f"drop{i}", nn.Dropout1d(dropout)))
            channels = out_channels
        self.body = nn.Sequential()
        for name, layer in layers:
            self.body.add_module(name, layer)
        self.shortcut = (
            nn.Conv1d(in_channels, out_channels, 1) if in_channels != out_channels else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, length) to (batch, out_channels, length)."""
        past: Tensor = self.body(x)
        return torch.relu(past + (x if self.shortcut is None else self.shortcut(x)))


class ResidualBlock1d(nn.Module):
    """``relu(bn2(conv2(relu(bn1(conv1(x))))) + x)`` with "same" padding for any kernel."""

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.conv1 = SameConv1d(channels, channels, kernel_size)
        self.bn1 = nn.BatchNorm1d(channels)
        self.conv2 = SameConv1d(channels, channels, kernel_size)
        self.bn2 = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, length) to the same shape."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + x)


class WangBlock(nn.Module):
    """Residual block of Wang, Yan and Oates 2017 (arXiv:1611.06455): three convolutions.

    The shortcut is a 1x1 convolution with BatchNorm where the channels differ, else BatchNorm.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernels: tuple[int, int, int] = (8, 5, 3)
    ) -> None:
        super().__init__()
        self.body = nn.Sequential()
        channels = in_channels
        for i, kernel in enumerate(kernels, 1):
            self.body.add_module(f"conv{i}", SameConv1d(channels, out_channels, kernel))
            self.body.add_module(f"bn{i}", nn.BatchNorm1d(out_channels))
            if i < len(kernels):
                self.body.add_module(f"relu{i}", nn.ReLU())
            channels = out_channels
        self.shortcut = nn.Sequential()
        if in_channels != out_channels:
            self.shortcut.add_module("conv", nn.Conv1d(in_channels, out_channels, 1))
        self.shortcut.add_module("bn", nn.BatchNorm1d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, length) to (batch, out_channels, length)."""
        return torch.relu(self.body(x) + self.shortcut(x))
