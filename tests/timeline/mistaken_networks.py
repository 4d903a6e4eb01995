"""Networks that somebody got wrong, or that no rule follows: 2 channels, 40 steps."""

from __future__ import annotations

import torch
from torch import nn

from user_networks import PLAIN, network


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.norm = network(**PLAIN), nn.GroupNorm(1, 2)


class Normed(Own):
    def forward(self, x):
        return self.net(self.norm(x))


class LessTheLast(Own):
    def forward(self, x):
        return self.net(x - x[:, :, -1:])


class Reversed(Own):
    def forward(self, x):
        return self.net(x.flip(2))


class Mixed(Own):
    def forward(self, x):
        y = self.net(x)
        return y - y.mean(0, keepdim=True)


class WrongCrop(Own):
    def forward(self, x):
        return self.net(nn.functional.pad(x, (4, 4))[:, :, 6:-2])


class Blind(Own):
    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.net.blocks[0].convs[0].conv.weight[:, :, 0] = 0

    def forward(self, x):
        return self.net(x)


class Deaf(Own):
    def forward(self, x):
        return 0 * self.net(x)


class Flattened(nn.Module):
    """Has steps again: a layer over the whole window, cut into steps."""

    def __init__(self):
        super().__init__()
        self.whole = nn.Linear(2 * 40, 3 * 40)

    def forward(self, x):
        return self.whole(x.flatten(1)).reshape(x.shape[0], 3, 40)


class Bottleneck(nn.Module):
    """Has steps again, as mixers do: two layers over time."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(40, 10), nn.Linear(10, 40)

    def forward(self, x):
        return self.up(torch.relu(self.down(x)))


class Exported(Own):
    """Another network while it is exported."""

    def forward(self, x):
        return self.net(x if torch.compiler.is_exporting() else x - x.mean(2, keepdim=True))


class BatchNormed(Own):
    """Normalises by what the batch at hand is, for ever."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2, track_running_stats=False)

    def forward(self, x):
        return self.net(self.norm(x))


class Difference(Own):
    def forward(self, x):
        return self.net(x[:, :, 1:] - x[:, :, :-1])


class First(Own):
    def forward(self, x):
        return self.net(x)[:, :, :10]


class Shared(nn.Module):
    """The same weights for every channel, which is put into the batch."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv1d(1, 8, 5, padding=2), nn.Linear(16, 3)

    def forward(self, x):
        y = self.conv(x.reshape(2 * x.shape[0], 1, 40))
        return self.head(y[:, :, -1].reshape(x.shape[0], 16))


class Layer(nn.Module):
    """One layer alone, by the name of its class."""

    def __init__(self, layer, *sizes, **how):
        super().__init__()
        self.layer = getattr(nn, layer)(*sizes, **how)

    def forward(self, x):
        if isinstance(self.layer, nn.LSTM | nn.Linear):
            y = self.layer(x.transpose(1, 2))
            return (y if isinstance(self.layer, nn.Linear) else y[0]).transpose(1, 2)
        return self.layer(x)


def layer(layer, sizes, **how):
    return Layer(layer, *sizes, **how)
