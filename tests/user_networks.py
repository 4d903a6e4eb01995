"""Networks as users write them, of every shape that random tests ask for: plain PyTorch.

``network`` is a factory for ``--factory user_networks:network --factory-args JSON``; whatever
its arguments, a network is seeded and lively.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "leaky": nn.LeakyReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class Conv(nn.Module):
    """A dilated convolution, padded in front, on both sides and cropped, or not at all."""

    def __init__(self, c_in, c_out, kernel, dilation, stride, groups, padding):
        super().__init__()
        self.span, self.stride, self.padding = (kernel - 1) * dilation, stride, padding
        self.conv = nn.Conv1d(
            c_in, c_out, kernel, stride=stride, dilation=dilation, groups=groups,
            padding=self.span if padding == "crop" else 0,
        )  # fmt: skip

    def forward(self, x):
        if self.padding == "crop":
            return self.conv(x)[:, :, : -(-x.shape[2] // self.stride)]
        if self.padding == "left":
            x = F.pad(x, (self.span, 0))
        if self.padding == "same":
            x = F.pad(x, (self.span // 2, self.span - self.span // 2))
        return self.conv(x)


class Block(nn.Module):
    """One or two convolutions, with a gate, a norm and a residual where they are wanted."""

    def __init__(
        self, c_in, width, kernel, dilation, stride, *,
        groups, convolutions, padding, residual, gate, norm, activation,
    ):  # fmt: skip
        super().__init__()
        wide = 2 * width if gate else width
        self.convs = nn.ModuleList()
        for i in range(convolutions):
            inner, step = (width, 1) if i else (c_in, stride)
            share = groups if inner % groups == 0 else 1
            self.convs.append(Conv(inner, wide, kernel, dilation, step, share, padding))
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(wide) if norm else nn.Identity() for _ in self.convs
        )
        self.act, self.gate, self.residual = ACTIVATIONS[activation](), gate, residual
        fits = c_in == width and stride == 1
        self.skip = nn.Identity() if fits else nn.Conv1d(c_in, width, 1, stride=stride)

    def forward(self, x):
        y = x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = norm(conv(y))
            if self.gate:
                a, b = y.chunk(2, dim=1)
                y = torch.tanh(a) * torch.sigmoid(b)
            else:
                y = self.act(y)
        if not self.residual:
            return y
        return self.act(y + self.skip(x)[:, :, -y.shape[2] :])


class Net(nn.Module):
    """Blocks, skip connections from all of them where wanted, and a head."""

    def __init__(
        self, channels, outputs, width, dilations, strides, kernel, head, skips, **how
    ):
        super().__init__()
        inputs = [channels] + [width] * (len(dilations) - 1)
        self.blocks = nn.ModuleList(
            Block(c, width, kernel, dilation, stride, **how)
            for c, dilation, stride in zip(inputs, dilations, strides, strict=True)
        )
        self.skips = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in self.blocks if skips)
        per_step = head in ("every", "tail", "only")
        self.head = nn.Conv1d(width, outputs, 1) if per_step else nn.Linear(width, outputs)
        self.read = head

    def forward(self, x):
        kept = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if self.skips:
                kept.append(self.skips[i](x))
        if kept:
            x = sum(value[:, :, -x.shape[2] :] for value in kept)
        if self.read == "mean":
            return self.head(x.mean(-1))
        if self.read == "last":
            return self.head(x[:, :, -1])
        if self.read == "step":
            return self.head(x[:, :, x.shape[2] // 2])
        if self.read == "only":
            return self.head(x[:, :, -1:]).squeeze(2)
        return self.head(x[:, :, -3:] if self.read == "tail" else x)


def network(seed=0, **shape):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return lively(Net(**shape))


def lively(net):
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return net.eval()


class Early(nn.Module):
    """One step too early: what a wrong index does to a residual branch."""

    def forward(self, x):
        return F.pad(x[:, :, 1:], (0, 1))


class Gate(nn.Module):
    """Squeeze and excite: every channel is weighed by what the whole window says."""

    def __init__(self, width):
        super().__init__()
        self.weigh = nn.Linear(width, width)

    def forward(self, x):
        return x * torch.sigmoid(self.weigh(x.mean(-1)))[:, :, None]


PLAIN = {
    "channels": 2, "outputs": 3, "width": 4, "dilations": [1, 2, 4], "strides": [1, 1, 1],
    "kernel": 3, "head": "every", "skips": False, "groups": 1, "convolutions": 1,
    "padding": "crop", "residual": True, "gate": False, "norm": True, "activation": "leaky",
}  # fmt: skip


def leaking(block=1, **changes):
    """A causal network but for the residual branch of one block."""
    net = network(**{**PLAIN, **changes})
    net.blocks[block].skip = Early()
    return net


def excited(block=1, **changes):
    net = network(**{**PLAIN, **changes})
    net.blocks.insert(block, lively(Gate(net.blocks[0].convs[0].conv.out_channels)))
    return net
