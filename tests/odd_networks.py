"""What users do between causal convolutions, one network each: plain PyTorch, (4, 64) in.

``made`` is a factory for ``--factory odd_networks:made --factory-args '{"name": NAME}'``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

WIDTH = 17


class Trunk(nn.Module):
    """Three causal convolutions, two with a residual; a layer of one's own; a head."""

    def __init__(self, name, layer):
        super().__init__()
        self.first = nn.Conv1d(4, WIDTH, 3, padding=2)
        self.second = nn.Conv1d(WIDTH, WIDTH, 3, dilation=2, padding=4)
        self.third = nn.Conv1d(WIDTH, WIDTH, 3, dilation=4, padding=8)
        self.layer, self.head, self.name = layer, nn.Linear(WIDTH, 5), name

    def trunk(self, x):
        y = F.relu(self.first(x)[:, :, :-2])
        y = F.relu(y + self.second(y)[:, :, :-4])
        return F.relu(y + self.third(y)[:, :, :-8])

    def forward(self, x):
        y = STEPS[self.name](self, self.trunk(x))
        return self.head(y[:, :, -1])


def distributed(net, y):
    n, c, length = y.shape
    flat = net.layer(y.transpose(1, 2).reshape(-1, c))
    return flat.view(n, length, c).transpose(1, 2)


def shuffled(net, y):
    n, c, length = y.shape
    y = torch.cat([y, y[:, :3]], 1).view(n, 4, 5, length).transpose(1, 2)
    return y.reshape(n, 20, length)[:, :c]


def attended(net, y):
    y = y.transpose(1, 2)
    return (y + net.layer(y, y, y, need_weights=False)[0]).transpose(1, 2)


def pooled(net, y):
    """And a convolution behind, so that several of the pooled steps are read."""
    return F.relu(net.second(net.layer(y))[:, :, :-4])


def along(net, y):
    return net.layer(y.transpose(1, 2)).transpose(1, 2)


STEPS = {
    "average pool": pooled,
    "average pool, padded": lambda net, y: net.layer(net.layer(y)),
    "max pool, dilated": lambda net, y: net.layer(net.layer(y)),
    "max pool, rounded up": lambda net, y: net.layer(y),
    "gate of one channel": lambda net, y: y * torch.sigmoid(net.layer(y)),
    "squeeze and excite": lambda net, y: y * torch.sigmoid(net.layer(y.mean(-1)))[:, :, None],
    "steps from the end": lambda _, y: y.index_select(-1, torch.tensor([5, 1, 3])),
    "turned around": lambda _, y: y.flip(-1)[:, :, :7:2],
    "padded channels": lambda net, y: net.layer(F.pad(y, (4, 0, 1, 1))),
    "shuffled channels": shuffled,
    "normalised to one": lambda _, y: F.normalize(y, dim=1),
    "layer norm": along,
    "group norm": lambda net, y: net.layer(y),
    "time distributed": distributed,
    "attention": attended,
    "upsampled": lambda net, y: F.relu(net.layer(y)),
    "gated": lambda net, y: F.glu(net.layer(y), 1),
    "split in time": lambda _, y: sum(part[:, :, -4:] for part in y.split([40, 24], -1)),
}
LAYERS = {
    "average pool": lambda: nn.AvgPool1d(2, 2),
    "average pool, padded": lambda: nn.AvgPool1d(3, 1, padding=1, count_include_pad=False),
    "max pool, dilated": lambda: nn.MaxPool1d(3, 1, dilation=2, padding=1),
    "max pool, rounded up": lambda: nn.MaxPool1d(3, 2, ceil_mode=True),
    "gate of one channel": lambda: nn.Conv1d(WIDTH, 1, 1),
    "squeeze and excite": lambda: nn.Linear(WIDTH, WIDTH),
    "padded channels": lambda: nn.Conv1d(WIDTH + 2, WIDTH, 3, dilation=2),
    "layer norm": lambda: nn.LayerNorm(WIDTH),
    "group norm": lambda: nn.GroupNorm(1, WIDTH),
    "time distributed": lambda: nn.Linear(WIDTH, WIDTH),
    "attention": lambda: nn.MultiheadAttention(WIDTH, 1, batch_first=True),
    "upsampled": lambda: nn.ConvTranspose1d(WIDTH, WIDTH, 2, 2),
    "gated": lambda: nn.Conv1d(WIDTH, 2 * WIDTH, 1),
}


def made(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Trunk(name, LAYERS.get(name, nn.Identity)()).eval()
