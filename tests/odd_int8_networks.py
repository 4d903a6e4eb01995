"""Networks that quantisers stumble over."""

from __future__ import annotations

import torch
from torch import nn


class _Seeded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)


class Multiplied(_Seeded):
    """A depthwise convolution that gives two channels for each."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(2, 8, 3), nn.Conv1d(8, 16, 3, groups=8)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean(-1))


class Stacked(_Seeded):
    """A product with a stack of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 3)
        self.stack = nn.Parameter(torch.randn(1, 22, 3))

    def forward(self, x):
        return torch.matmul(torch.relu(self.conv(x)), self.stack).mean(1)


class Scaled(_Seeded):
    """Nothing that int8 computes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(3, 1))

    def forward(self, x):
        return (x.mean(1, keepdim=True) * self.scale).mean(-1)
