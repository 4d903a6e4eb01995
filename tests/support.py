"""What several tests need: small networks with lively weights, data files, commands."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx_ir as ir
import torch
from click.testing import CliRunner
from hypothesis import Phase
from torch import nn

from tcn_export.graph import Graph
from tcn_export.models import build, describe
from tcn_export.models.config import Config
from tcn_export.models.tcn import TCNConfig
from tcn_export.source.base import Source
from tcn_export.source.checkpoint import Checkpoint, load_source, save_checkpoint

TINY_TCN = TCNConfig(
    in_channels=3, outputs=4, widths=(8, 12, 12), dilations=(1, 2, 4), causal_padding="crop"
)
TINY_LENGTH = 24

NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
"""For properties whose every example costs seconds: the seeds found are small enough."""


def enliven(module: nn.Module, seed: int, smallest_variance: float = 1e-3) -> nn.Module:
    """Random BatchNorm statistics and normalisation, as training leaves them."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    for child in module.modules():
        if isinstance(child, nn.BatchNorm1d):
            span = (np.log10(smallest_variance), 0.5)
            child.running_var.copy_(10 ** uniform(child.running_var, *span))
            child.running_mean.copy_(uniform(child.running_mean, -1, 1))
            child.weight.data.copy_(uniform(child.weight, 0.3, 1.5))
            child.bias.data.copy_(uniform(child.bias, -0.5, 0.5))
    normalize: Any = module.get_submodule("normalize")
    normalize.mean.copy_(uniform(normalize.mean, -2, 2))
    normalize.scale.copy_(uniform(normalize.scale, 0.2, 2))
    return module


def make_checkpoint(
    path: Path,
    config: Config = TINY_TCN,
    length: int = TINY_LENGTH,
    seed: int = 0,
    smallest_variance: float = 1e-3,
    **changes: Any,
) -> Path:
    """Write the checkpoint of an untrained but lively network."""
    architecture, entries = describe(config)
    torch.manual_seed(seed)
    module = enliven(build(architecture, entries), seed, smallest_variance)
    fields: dict[str, Any] = {
        "architecture": architecture,
        "config": entries,
        "state_dict": module.state_dict(),
        "channels": entries["in_channels"],
        "length": length,
        "task": "classification",
        "classes": tuple(f"class {i}" for i in range(entries["outputs"])),
        "sample_rate_hz": 50.0,
    }
    save_checkpoint(path, Checkpoint(**{**fields, **changes}))
    return path


def make_source(path: Path, config: Config = TINY_TCN, **options: Any) -> Source:
    return load_source(make_checkpoint(path, config, **options))


def make_data(
    path: Path, model: Path, windows: int = 60, seed: int = 0, **arrays: Any
) -> Path:
    """Write windows that a model takes, labelled with its own answers."""
    source = load_source(model)
    rng = np.random.default_rng(seed)
    shape = (2 * windows, source.channels, source.length)
    noise = rng.standard_normal(shape) * source.spread[:, None] + source.center[:, None]
    x = noise.astype(np.float32)
    with torch.inference_mode():
        output = source.module(torch.from_numpy(x))
    y = output.argmax(1).numpy() if source.task == "classification" else output.numpy()
    content: dict[str, Any] = {
        "x_train": x[:windows],
        "y_train": y[:windows],
        "x_test": x[windows:],
        "y_test": y[windows:],
    }
    np.savez(path, **{k: v for k, v in (content | arrays).items() if v is not None})
    return path


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


def run(command: click.Command, *arguments: object) -> Ran:
    """Run a command in this process; an exception that it lets through is raised."""
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    return Ran(result.exit_code, result.stdout, result.stderr)


_BLOCKED = ("torch", "onnx", "onnx_ir", "onnxscript", "lightning", "aeon", "sklearn", "scipy")
_WITHOUT = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {_BLOCKED}:
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Block())
from tcn_export.cli.COMMAND import main
main()
"""


def run_without_torch(command: str, *arguments: object) -> Ran:
    """Run a command in a process of its own, where only what a device needs is installed."""
    program = _WITHOUT.replace("COMMAND", command)
    line = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def operators(graph: Graph | ir.Model) -> list[str]:
    """The operators of a graph, in order."""
    model = graph.model if isinstance(graph, Graph) else graph
    return [node.op_type for node in model.graph]


def in_double(graph: Graph) -> Graph:
    """The same graph with every float32 constant, input and output in float64: lossless."""
    proto = ir.to_proto(graph.model)
    model = ir.from_proto(proto)
    for value in model.graph.initializers.values():
        array = value.const_value.numpy()
        if array.dtype == np.float32:
            value.const_value = ir.tensor(array.astype(np.float64), name=value.name)
            value.type = ir.TensorType(ir.DataType.DOUBLE)
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.type = ir.TensorType(ir.DataType.DOUBLE)
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.type = None
    return Graph(model, graph.signature, graph.history)


def eager_double(source: Source, x: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return copy.deepcopy(source.module).double()(torch.from_numpy(x).double()).numpy()
