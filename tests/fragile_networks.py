"""A trained network that naive int8 breaks.

One channel is a hundred times as large as the others, the channels of a depthwise convolution
differ fifty-fold, and the signal has outliers. All of it is legal, and in float32 harmless.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

CHANNELS, LENGTH, CLASSES = 2, 64, 6
_WIDTH = 16
LARGE = 100.0
SPREAD = 50.0
_STEPS, _BATCH = 300, 64


class Fragile(nn.Module):
    """``shared``: large channels are read twice, so that they keep their scale."""

    def __init__(self, shared: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv1d(CHANNELS, _WIDTH, 5, padding=4)
        self.depthwise = nn.Conv1d(_WIDTH, _WIDTH, 3, padding=2, groups=_WIDTH)
        self.second = nn.Conv1d(_WIDTH, _WIDTH, 3, padding=2)
        self.skip = nn.Conv1d(_WIDTH, _WIDTH, 1) if shared else None
        self.head = nn.Linear(_WIDTH, CLASSES)

    def forward(self, x):
        x = torch.relu(self.first(x)[..., :-4])
        y = torch.relu(self.depthwise(x)[..., :-2])
        y = torch.relu(self.second(y)[..., :-2])
        if self.skip is not None:
            y = y + self.skip(x)
        return self.head(y.mean(-1))


class TwoHeads(nn.Module):
    """Whichever of its layers stays in float32, another one cannot do with 256 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(CHANNELS, _WIDTH, 9, padding=8)
        self.head = nn.Linear(_WIDTH, CLASSES)
        self.other = nn.Linear(_WIDTH, 1)

    def forward(self, x):
        x = torch.relu(self.first(x)[..., :-8]).mean(-1)
        return self.head(x), self.other(x)


def recordings(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Oscillations of six kinds under noise of a heavy tail, (count, CHANNELS, LENGTH)."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(CLASSES, size=count)
    time = np.arange(LENGTH)
    turns = 0.04 + 0.03 * (kind % 3)
    phase = rng.uniform(0, 2 * np.pi, count)
    wave = np.sin(2 * np.pi * turns[:, None] * time + phase[:, None])
    lead = np.where(kind < 3, 0.5, -0.5) * np.pi
    other = np.sin(2 * np.pi * turns[:, None] * time + (phase + lead)[:, None])
    noise = 0.25 * rng.standard_t(3, (count, CHANNELS, LENGTH))
    outliers = 30 * rng.standard_normal(noise.shape) * (rng.random(noise.shape) < 2e-4)
    x = np.stack([wave, other], axis=1) + noise + outliers
    return x.astype(np.float32), kind.astype(np.int64)


def trained(net: nn.Module) -> nn.Module:
    """Some training, then every channel gets its own scale, which its readers take back."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, y = (torch.from_numpy(a) for a in recordings(4000, seed=1))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(_STEPS):
        index = torch.arange(step * _BATCH, (step + 1) * _BATCH) % len(x)
        optimizer.zero_grad()
        answer = net(x[index])
        answer = answer[0] if isinstance(answer, tuple) else answer
        nn.functional.cross_entropy(answer, y[index]).backward()
        optimizer.step()
    with torch.no_grad():
        _rescale(net)
    return net.eval()


def _rescale(net: nn.Module) -> None:
    large = torch.ones(_WIDTH)
    # One that is read once; where it is read twice every other one: then clipping is no help.
    large[:: 2 if getattr(net, "skip", None) is not None else _WIDTH] = LARGE
    net.first.weight *= large[:, None, None]
    net.first.bias *= large
    if isinstance(net, TwoHeads):
        net.head.weight /= large
        net.other.weight /= large
        return
    spread = SPREAD ** torch.linspace(0, 1, _WIDTH)
    net.depthwise.weight *= (spread / large)[:, None, None]
    net.depthwise.bias *= spread
    net.second.weight /= spread[None, :, None]
    if net.skip is not None:
        net.skip.weight /= large[None, :, None]
