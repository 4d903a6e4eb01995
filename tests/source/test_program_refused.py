"""torch.export programs that cannot be exported: refused, with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from programs import OPEN_BATCH, STEPS, Net, save
from tcn_export.errors import UnsupportedModelError
from tcn_export.source.base import Told
from tcn_export.source.program import load_program


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def own(module, **options):
    return save(module.eval(), Path("own.pt2"), **options)


def counted(net, h):
    net.norm.running_mean.add_(1)
    return net.head(h.mean(-1))


def guarded(net, h):
    with torch.no_grad():
        return net.head(h.mean(-1))


def grown(net, h):
    return net.head(h.mean(-1)) + torch.zeros((h.shape[0] - 1) * 2**28).sum()


def kept(net, h):
    many = [torch.zeros(2**26) + i for i in range(12)]
    return net.head(h.mean(-1)) + sum(one[0] for one in many)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x):
        return self.rnn(x.transpose(1, 2))[0][:, -1]


def hidden(net, h):
    net.conv.bias[:2].add_(1)
    return net.head(h.mean(-1))


REFUSED = {
    "a view of a weight that is written to": (
        lambda: Net(hidden).requires_grad_(False), {}, "changes .*conv.bias. while it runs",
    ),
    "a batch that fills it": (lambda: Net(grown), {}, r"fit into memory .*\(3, 3, 12\)"),
    "values that fill it together": (lambda: Net(kept), {}, "it holds .* values at a time"),
    "recurrent": (Recurrent, {}, "corrupts memory .* by --factory, or as ONNX"),
    "training": (lambda: Net().train(), {}, "as in training. Call model.eval|while it runs"),
    "dropout for ever": (
        lambda: Net(lambda net, h: functional.dropout(h.mean(-1), training=True)), {},
        r"as in training. Call model.eval\(\)",
    ),
    "a counter": (lambda: Net(counted), {}, "changes `norm.running_mean` while it runs"),
    "two of one path": (
        lambda: Net(lambda net, h: {"a.b": h, "a": {"b": 2 * h}}), {},
        "two tensors under `a.b`",
    ),
    "a mode": (lambda: Net(guarded), {}, "calls `.*`, which is none of the operators"),
    "class indices": (
        lambda: Net(lambda net, h: net.head(h.mean(-1)).argmax(1)), {}, "with torch.int64",
    ),
    "a number": (
        lambda: Net(lambda net, h: (net.head(h.mean(-1)), 3)), {}, "something that is no tens",
    ),
    "chance": (
        lambda: Net(lambda net, h: torch.randn_like(h)), {}, "which draws random numbers",
    ),
    "four axes": (
        lambda: nn.Conv2d(1, 2, 1), {"shape": (2, 1, 3, STEPS)}, r"expected \(batch, channels",
    ),
    "half": (
        lambda: Net(lambda net, h: h.half()), {}, r"with torch.float16; expected the same",
    ),
    "double weights": (
        lambda: Net(lambda net, h: h.double()).double(), {}, "is torch.float64|torch.float32",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:The tensor attributes self.rnn._flat_weights")
@pytest.mark.parametrize("case", REFUSED)
def test_programs_that_cannot_be_exported_are_refused_with_the_way_out(case):
    make, options, message = REFUSED[case]
    net = make()
    shape = options.get("shape", (2, 3, STEPS))
    example = torch.zeros(shape, dtype=next(net.parameters()).dtype)
    program = torch.export.export(
        net if case == "training" else net.eval(), (example,), dynamic_shapes=OPEN_BATCH
    )
    torch.export.save(program, "own.pt2")
    with pytest.raises(UnsupportedModelError, match=f"(?s){message}"):
        load_program(Path("own.pt2"), Told())
