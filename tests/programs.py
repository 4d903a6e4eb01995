"""torch.export programs as users save them, and as a stranger may forge them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

STEPS = 12
OPEN_BATCH = ({0: torch.export.Dim("batch", min=1)},)


class Net(nn.Module):
    """A small network; ``answer`` computes what it gives from the features and itself."""

    def __init__(self, answer: Callable[[Any, Any], Any] | None = None) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(3, 4, 3, padding=2), nn.BatchNorm1d(4)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, 5)
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        self.answer = answer

    def forward(self, x: Any) -> Any:
        h = torch.relu(self.norm(self.conv(x)[:, :, :-2]))
        if self.answer is not None:
            return self.answer(self, h)
        return self.head(self.drop(h).mean(-1))


def save(
    module: nn.Module,
    path: Path,
    shape: tuple[int, ...] = (2, 3, STEPS),
    dynamic: Any = OPEN_BATCH,
) -> Path:
    """Export a module in the mode it is in, and save the program."""
    example = torch.zeros(shape)
    torch.export.save(torch.export.export(module, (example,), dynamic_shapes=dynamic), path)
    return path


def forge(path: Path, **changes: Callable[[Any], Any] | bytes | None) -> Path:
    """Write the archive again: a part's JSON changed in place, other bytes, or without it.

    Args:
        path: The archive.
        changes: By the end of the part's name, without its extension.
    """
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for end, change in changes.items():
        (name,) = (n for n in parts if Path(n).stem == end and Path(n).suffix != ".pt")
        content = parts.pop(name)
        if callable(change):
            told = json.loads(content)
            change(told)
            content = json.dumps(told).encode()
        elif change is not None:
            content = change
        if change is not None:
            parts[name] = content
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def calling(target, *arguments, **named):
    """Put a call of ``target`` in front of everything else."""

    def change(told):
        nodes = told["graph_module"]["graph"]["nodes"]
        inputs = [{"name": "", "arg": arg, "kind": 1} for arg in arguments]
        inputs += [{"name": name, "arg": arg, "kind": 1} for name, arg in named.items()]
        output = {"as_tensor": {"name": "forged"}}
        node = {**nodes[0], "target": target, "inputs": inputs, "outputs": [output]}
        nodes.insert(0, node)

    return change
