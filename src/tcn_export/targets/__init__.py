"""The runtimes an artifact is made for: the only place that imports one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from tcn_export import extras
from tcn_export.data import Array
from tcn_export.graph import BATCH, Signature
from tcn_export.targets.base import Artifact, Mode, Runner, Stepper, Target, symbol_sizes
from tcn_export.targets.streamed import StreamedRunner

_MODULES = {
    "onnx": ("tcn_export.targets.onnxruntime", "cpu"),
    "cuda": ("tcn_export.targets.cuda", "gpu"),
    "trt": ("tcn_export.targets.tensorrt.target", None),
}
"""Module of each target, and the extra that brings its runtime; None where it tells itself."""

TARGETS = tuple(_MODULES)


def load_target(name: str) -> Target:
    """Import the module of a target, one of `TARGETS`.

    Raises:
        MissingExtraError: Its runtime is not installed.
    """
    module, extra = _MODULES[name]
    if extra is not None:
        extras.require(extra, f"The target {name}")
    return cast(Target, import_module(module))


def open_runner(artifact: Artifact, threads: int = 0) -> Runner:
    """A runner of whole windows or signals for an artifact; 0 threads takes all cores.

    Raises:
        ExportError: As `Target.runner` does.
    """
    stepper = load_target(artifact.target).runner(artifact, threads)
    return whole(stepper, artifact.mode, artifact.signature)


def timed(runner: Runner, signature: Signature, feeds: Mapping[str, Array]) -> Runner:
    """What is timed of a runner: of a stream a hop as a session takes it, unchecked."""
    if not isinstance(runner, Stepper):
        return runner
    runner.prepare(symbol_sizes(signature, feeds).get(BATCH, 1))
    return Unchecked(runner)


class Unchecked:
    """A runner of hops that is known to be fed right."""

    def __init__(self, stepper: Stepper) -> None:
        self.run, self.reset = stepper.step, stepper.reset


def whole(runner: Runner, mode: Mode, signature: Signature) -> Runner:
    """A runner of whole signals, where ``runner`` takes one hop of a stream at a time."""
    return StreamedRunner(runner, signature) if mode == "stream" else runner
