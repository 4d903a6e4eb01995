"""Causal and other networks whose streams keep more than what one convolution reads."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

CHANNELS = 3


class Net(nn.Module):
    """Two convolutions and a head; subclasses say what lies between."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(CHANNELS, 8, 3)
        self.second = nn.Conv1d(8, 8, 3, dilation=2)
        self.head = nn.Conv1d(8, 4, 1)

    def causal(self, layer, x):
        reach = (layer.kernel_size[0] - 1) * layer.dilation[0]
        return layer(F.pad(x, (reach, 0)))


class Gated(Net):
    """A state whose zero is not the integer 0, and that another branch reads in float32."""

    def forward(self, x):
        y = torch.tanh(self.causal(self.first, x))
        return self.head(torch.sigmoid(self.causal(self.second, y)) * y)


class LooksAhead(Net):
    """Steps before the first have to stay zeros; the residual waits."""

    def forward(self, x):
        y = torch.relu(self.first(F.pad(x, (1, 1))))
        return self.head(torch.relu(y + self.second(F.pad(y, (2, 2)))))


class Delayed(Net):
    """The residual waits for a layer that looks ahead; there is nothing else before step 0."""

    def forward(self, x):
        y = torch.relu(self.causal(self.first, x))
        return self.head(y + self.second(F.pad(y, (2, 2))))


class Pooled(Net):
    """A pool that reads minus infinity in front of the signal."""

    def forward(self, x):
        y = torch.relu(self.causal(self.first, x))
        y = F.max_pool1d(y, 3, 1, 1)
        return self.head(self.causal(self.second, y))


class Mean(Net):
    """Answers from the mean over time."""

    def forward(self, x):
        y = torch.relu(self.causal(self.first, x))
        return self.head(y.mean(-1, keepdim=True))[:, :, 0]


class Remembers(nn.Module):
    """The sum of the last 64 steps: no shorter window sees how large it becomes."""

    def __init__(self):
        super().__init__()
        self.sum = nn.Conv1d(1, 1, 64, bias=False)
        self.head = nn.Conv1d(1, 2, 1)
        nn.init.ones_(self.sum.weight)

    def forward(self, x):
        return self.head(torch.relu(self.sum(F.pad(x, (63, 0)))))


NETWORKS = {c.__name__: c for c in (Gated, LooksAhead, Delayed, Pooled, Mean, Remembers)}


def made(kind):
    """A factory: the network of that name."""
    torch.manual_seed(0)
    return NETWORKS[kind]().eval()
