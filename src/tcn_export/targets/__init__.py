"""The runtimes an artifact is made for: the only place that imports one."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from tcn_export import extras
from tcn_export.targets.base import Target

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
