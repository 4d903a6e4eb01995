"""Random networks for streams, as plain PyTorch: every way to look back, ahead, and late.

``network`` is a factory for ``--factory stream_networks:network --factory-args JSON``. Biases
are everywhere: a hidden step before step 0 is a zero, and not what is computed from zeros.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from user_networks import lively

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}


class Conv(nn.Module):
    """A convolution with padding of its own, more in front or behind it, and crops."""

    def __init__(
        self, channels, width, kernel, dilation=1, stride=1, groups=1, own=0,
        pads=(0, 0), crops=(0, 0),
    ):  # fmt: skip
        super().__init__()
        self.pads, self.crops = tuple(pads), tuple(crops)
        self.conv = nn.Conv1d(channels, width, kernel, stride, own, dilation, groups)

    def forward(self, x):
        if any(self.pads):
            x = F.pad(x, self.pads)
        y = self.conv(x)
        front, behind = self.crops
        if front:
            y = y[:, :, front:]
        return y[:, :, :-behind] if behind else y


class Shift(nn.Module):
    """What it answers is late (more than 0 steps), or early."""

    def __init__(self, steps, is_padded):
        super().__init__()
        self.steps, self.is_padded = steps, is_padded

    def forward(self, x):
        if self.steps >= 0:
            return F.pad(x[:, :, : x.shape[2] - self.steps], (self.steps, 0))
        early = x[:, :, -self.steps :]
        return F.pad(early, (0, -self.steps)) if self.is_padded else early


class PerStep(nn.Module):
    """LayerNorm over the channels and a linear layer, as behind a transposition."""

    def __init__(self, channels, width, norm):
        super().__init__()
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()
        self.linear = nn.Linear(channels, width)
        if norm:
            nn.init.normal_(self.norm.bias)

    def forward(self, x):
        return self.linear(self.norm(x.transpose(1, 2))).transpose(1, 2)


class Branches(nn.Module):
    """Two branches of one signal, brought to one length, that are added or put together."""

    def __init__(self, one, other, join, align):
        super().__init__()
        self.one, self.other, self.join, self.align = one, other, join, align

    def forward(self, x):
        a, b = self.one(x), self.other(x)
        steps = min(a.shape[2], b.shape[2])
        if self.align == "end":
            a, b = a[:, :, -steps:], b[:, :, -steps:]
        else:
            a, b = a[:, :, :steps], b[:, :, :steps]
        return a + b if self.join == "add" else torch.cat([a, b], dim=1)


def layers(channels, described):
    """The layers of a description, and how many channels leave them."""
    made = []
    for kind, how in described:
        if kind == "conv":
            made.append(Conv(channels, **how))
            channels = how["width"]
        elif kind == "max":
            made.append(nn.MaxPool1d(**how))
        elif kind == "average":
            made.append(nn.AvgPool1d(**how, count_include_pad=True))
        elif kind == "shift":
            made.append(Shift(**how))
        elif kind == "norm":
            made.append(nn.BatchNorm1d(channels))
        elif kind == "act":
            made.append(ACTIVATIONS[how]())
        elif kind == "per_step":
            made.append(PerStep(channels, **how))
            channels = how["width"]
        else:
            one, left = layers(channels, how["one"])
            other, right = layers(channels, how["other"])
            made.append(Branches(one, other, how["join"], how["align"]))
            channels = left if how["join"] == "add" else left + right
    return nn.Sequential(*made), channels


class Network(nn.Module):
    """A body with steps, and a head that reads every one, the last one, or their mean."""

    def __init__(self, channels, outputs, body, head):
        super().__init__()
        self.body, width = layers(channels, body)
        self.read = head
        per_step = head == "every"
        self.head = nn.Conv1d(width, outputs, 1) if per_step else nn.Linear(width, outputs)

    def forward(self, x):
        x = self.body(x)
        if self.read == "last":
            x = x[:, :, -1]
        elif self.read == "mean":
            x = x.mean(-1)
        return self.head(x)


def network(seed=0, **shape):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return lively(Network(**shape))
