"""Networks as users write them, as text for a module that a factory is taken from."""

from __future__ import annotations

HEAD = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
NETWORK = """
class Net(nn.Module):
    def __init__(self, outputs=4):
        super().__init__()
        self.conv = nn.Conv1d(3, 8, 3, padding=2)
        self.head = nn.Linear(8, outputs)
    def features(self, x):
        return torch.relu(self.conv(x)[:, :, :-2])
    def forward(self, x):
        return self.head(self.features(x).mean(-1))
"""
STEPS = 12
MEAN = "self.head(self.features(x).mean(-1))"


def answering(expression: str) -> str:
    """A factory `make` whose network answers with an expression of ``x`` and ``self``."""
    return (
        "\nclass Odd(Net):\n    def forward(self, x):\n"
        f"        return {expression}\nmake = Odd\n"
    )
