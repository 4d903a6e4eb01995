"""Networks as users write them, as one hop of a stream: what a runtime is given to run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from tcn_export.capture import capture
from tcn_export.graph import Graph, Signature
from tcn_export.options import ExportOptions
from tcn_export.parity.tolerance import float32_limit
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.plans import PLANS
from tcn_export.rewrite.streaming import stream_by_concat
from tcn_export.source.reading import read_source
from tcn_export.targets.base import Runner
from tcn_export.targets.streamed import StreamedRunner
from tcn_export.timeline.analysis import analyze
from tcn_export.timeline.schedule import find_schedule

CHANNELS, WIDTH, CLASSES = 3, 8, 4


class Block(nn.Module):
    """A dilated convolution with BatchNorm, padded in front or on both sides; the residual."""

    def __init__(self, c_in: int, dilation: int, causal: bool) -> None:
        super().__init__()
        span = 2 * dilation
        self.padding = (span, 0) if causal else (dilation, dilation)
        self.conv = nn.Conv1d(c_in, WIDTH, 3, dilation=dilation)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.skip = nn.Conv1d(c_in, WIDTH, 1) if c_in != WIDTH else nn.Identity()

    def forward(self, x):
        return torch.relu(self.norm(self.conv(F.pad(x, self.padding))) + self.skip(x))


class Net(nn.Module):
    """Three blocks, what comes between them and the head, and the head."""

    def __init__(self, head: str, causal: bool = True, between: nn.Module | None = None):
        super().__init__()
        self.blocks = nn.Sequential(
            *(Block(WIDTH if i else CHANNELS, 2**i, causal) for i in range(3))
        )
        self.between = between or nn.Identity()
        self.head, self.linear = head, nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        h = self.between(self.blocks(x))
        if self.head == "every":
            return self.linear(h.transpose(1, 2)).transpose(1, 2)
        return self.linear(h[:, :, -1] if self.head == "last" else h.mean(-1))


def _seeded(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def factory() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = build()
            for child in module.modules():
                if isinstance(child, nn.BatchNorm1d):
                    nn.init.normal_(child.running_mean, std=0.2)
                    nn.init.uniform_(child.running_var, 0.5, 2.0)
        return module.eval()

    return factory


every = _seeded(lambda: Net("every"))
looking_ahead = _seeded(lambda: Net("every", causal=False))
last = _seeded(lambda: Net("last"))
mean = _seeded(lambda: Net("mean"))
mean_looking_ahead = _seeded(lambda: Net("mean", causal=False))
strided = _seeded(lambda: Net("mean", False, nn.Conv1d(WIDTH, WIDTH, 5, stride=2, padding=2)))
max_pooled = _seeded(lambda: Net("every", between=nn.MaxPool1d(2)))
mean_pooled = _seeded(lambda: Net("every", between=nn.AvgPool1d(4)))
max_pooled_ahead = _seeded(lambda: Net("every", False, nn.MaxPool1d(3, 1, padding=1)))


@dataclass(frozen=True)
class Case:
    """How a network is streamed: steps per hop, and of its mean (0: all since the start)."""

    factory: str
    hop: int
    mean_steps: int | None = None
    channels: int = CHANNELS
    length: int = 64


CASES = {
    "every, hop 1": Case("every", 1),
    "every, hop 16": Case("every", 16),
    "looking ahead, hop 1": Case("looking_ahead", 1),
    "looking ahead, hop 4": Case("looking_ahead", 4),
    "last, hop 1": Case("last", 1),
    "last, hop 4": Case("last", 4),
    "running mean": Case("mean", 1, 0),
    "running mean, looking ahead": Case("mean_looking_ahead", 4, 0),
    "mean of a window": Case("mean", 4, 10),
    "mean of a window, looking ahead": Case("mean_looking_ahead", 1, 10),
    "strided, running mean": Case("strided", 4, 0),
    "strided, mean of a window": Case("strided", 2, 6),
    "max pool": Case("max_pooled", 4),
    "mean pool": Case("mean_pooled", 4),
    "max pool, looking ahead": Case("max_pooled_ahead", 2),
}
"""By name: every kind of state and of mask."""


@lru_cache
def streamed(case: Case, opset: int = 20) -> tuple[Graph, nn.Module]:
    """One hop of a network, and the network; neither may be altered."""
    factory = case.factory if ":" in case.factory else f"{__name__}:{case.factory}"
    options = ExportOptions(factory=factory, input_shape=(case.channels, case.length))
    source = read_source(None, options.told)
    graph = run_plan(PLANS["trt"], capture(source, case.length, opset))
    axes = {spec.name: spec.time_axis for spec in graph.signature.inputs}
    timeline = analyze(graph.model, axes)
    schedule = find_schedule(graph.model, timeline, case.hop, case.mean_steps)
    return stream_by_concat(graph, timeline, schedule), source.module


def signals(case: Case, batch: int = 2, hops: int | None = None, seed: int = 0) -> np.ndarray:
    """Noise of a whole number of hops."""
    steps = case.length - case.length % case.hop if hops is None else hops * case.hop
    shape = (batch, case.channels, steps)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def eager(module: nn.Module, x: np.ndarray, delay: int = 0) -> np.ndarray:
    """What the network gives for whole signals, in float64, but the last ``delay`` steps."""
    with torch.inference_mode():
        y = copy.deepcopy(module).double()(torch.from_numpy(x).double()).numpy()
    return y[:, :, : y.shape[2] - delay] if y.ndim == 3 else y


def check_stream(
    running: Runner, signature: Signature, module: nn.Module, case: Case, steps: int
) -> None:
    """Hold a runner of hops to the network on a long signal, twice, with a reset between."""
    x, (output,) = signals(case, hops=-(-steps // case.hop)), signature.outputs
    # A mean of a stream is not that of a window: what it is of is taken apart here.
    truth = (
        mean_so_far(module, x, case)
        if case.mean_steps is not None
        else eager(module, x, output.delay)
    )
    limit = float32_limit(0.0, float(np.abs(truth).max()))
    for _ in range(2):
        streamed_answers = StreamedRunner(running, signature).run({"signal": x})[output.name]
        assert streamed_answers.shape == truth.shape
        assert float(np.abs(streamed_answers - truth).max()) <= limit


def mean_so_far(module: nn.Module, x: np.ndarray, case: Case) -> np.ndarray:
    """The last answer of a network that takes the mean of the steps that a stream knows."""
    wide = copy.deepcopy(module).double()
    with torch.inference_mode():
        features = wide.between(wide.blocks(torch.from_numpy(x).double()))
    stride = x.shape[2] // features.shape[2]
    known = features[:, :, : features.shape[2] - ahead(module, stride)]
    if case.mean_steps:
        known = known[:, :, -case.mean_steps :]
    with torch.inference_mode():
        return np.asarray(wide.linear(known.mean(-1)).numpy())


def ahead(module: nn.Module, stride: int) -> int:
    """Steps of the features that wait for steps of the signal to come."""
    looks = sum(block.padding[1] for block in module.blocks)
    if stride > 1:
        return -(-(looks + 2 + 1 - stride) // stride)
    return looks
