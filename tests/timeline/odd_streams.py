"""Networks that cannot be streamed, or whose stream can be worked out by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

CHANNELS, WIDTH, STEPS = 2, 4, 32


class Body(nn.Module):
    """A causal convolution in front of what is odd, and a linear layer behind it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(CHANNELS, WIDTH, 3)
        self.head = nn.Conv1d(WIDTH, 3, 1)
        self.answer = nn.Linear(WIDTH, 3)

    def hidden(self, x):
        return torch.relu(self.conv(F.pad(x, (2, 0))))


class GlobalMax(Body):
    def forward(self, x):
        return self.answer(self.hidden(x).amax(-1))


class Mean(Body):
    def forward(self, x):
        return self.answer(self.hidden(x).mean(-1))


class SqueezeExcite(Body):
    def forward(self, x):
        h = self.hidden(x)
        return self.head(h * torch.sigmoid(h.mean(-1, keepdim=True)))


class Attention(Body):
    def forward(self, x):
        h = self.hidden(x).transpose(1, 2)
        return self.head((torch.softmax(h @ h.transpose(1, 2), -1) @ h).transpose(1, 2))


class Recurrent(Body):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, WIDTH // 2, bidirectional=True, batch_first=True)

    def forward(self, x):
        return self.head(self.lstm(self.hidden(x).transpose(1, 2))[0].transpose(1, 2))


class Group(Body):
    def __init__(self):
        super().__init__()
        self.norm = nn.GroupNorm(2, WIDTH)

    def forward(self, x):
        return self.head(self.norm(self.hidden(x)))


class Instance(Body):
    def __init__(self):
        super().__init__()
        self.norm = nn.InstanceNorm1d(WIDTH, affine=True)

    def forward(self, x):
        return self.head(self.norm(self.hidden(x)))


class Reflected(Body):
    def forward(self, x):
        return self.head(torch.relu(self.conv(F.pad(x, (2, 0), mode="reflect"))))


class Flattened(Body):
    def __init__(self):
        super().__init__()
        self.answer = nn.Linear(WIDTH * STEPS, 3)

    def forward(self, x):
        return self.answer(self.hidden(x).flatten(1))


class FixedStep(Body):
    def forward(self, x):
        return self.answer(self.hidden(x)[:, :, 7])


class Positions(Body):
    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, WIDTH, STEPS))

    def forward(self, x):
        return self.head(self.hidden(x) + self.position)


class LastAhead(Body):
    def forward(self, x):
        h = torch.relu(self.conv(F.pad(x, (1, 1))))
        return self.answer(h[:, :, -1])


class Averaged(Body):
    def forward(self, x):
        h = F.avg_pool1d(self.hidden(x), 3, 1, 1, count_include_pad=False)
        return self.head(h)


class EveryOtherOfTheLast(Body):
    def forward(self, x):
        return self.head(self.hidden(x)[:, :, -8::2])


class BeforeTheLast(Body):
    def forward(self, x):
        return self.answer(self.hidden(x)[:, :, -2])


class Reversed(Body):
    def forward(self, x):
        return self.head(self.hidden(x).flip(2))


class Strided(Body):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv1d(WIDTH, WIDTH, 2, stride=2)

    def forward(self, x):
        return self.head(F.max_pool1d(self.down(self.hidden(x)), 3))


class Residual(nn.Module):
    """A branch that looks two steps ahead, added to the signal itself."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(CHANNELS, CHANNELS, 5, padding=2)

    def forward(self, x):
        return x + self.conv(x)


class Unpadded(nn.Module):
    """The same without padding; the residual is cropped from the end."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(CHANNELS, CHANNELS, 5)

    def forward(self, x):
        y = self.conv(x)
        return x[:, :, -y.shape[2] :] + y


class Dilated(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Conv1d(CHANNELS, WIDTH, 3, dilation=4)
        self.two = nn.Conv1d(WIDTH, 1, 2, stride=2)

    def forward(self, x):
        return self.two(self.one(F.pad(x, (8, 0))))


class Cropped(Body):
    """Leaves out the last three steps of what it computes, and reads the last of the rest."""

    def forward(self, x):
        return self.answer(self.hidden(x)[:, :, :-3][:, :, -1])


class Tail(Body):
    def forward(self, x):
        return self.answer(self.hidden(x)[:, :, -3:].mean(-1))


def make(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return globals()[kind]().eval()
