"""The trtexec line that builds the engine, for those who prefer it or have to use it.

JetPack 5 and 6.0 bring TensorRT 8.5 and 8.6, which know no strong typing and have another
Python interface: there trtexec builds, and nothing of ours runs.

Part of ``build_engine.py``: Python 3.8, standard library only.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from tcn_export.targets.tensorrt.probe import version_numbers

_ALWAYS_STRONGLY_TYPED = (11,)
_STRONG_TYPING = (10,)
_MIB = 2**20


def trtexec_line(version: str, precision: str, settings: Mapping[str, Any]) -> str:
    """A command for a shell.

    Args:
        version: Of TensorRT.
        precision: Of the graph; before TensorRT 10 the builder has to be told it too.
        settings: Of the export: shapes, workspace, TF32, accelerator.
    """
    numbers = version_numbers(version)
    words = ["trtexec", "--onnx=model.onnx", "--saveEngine=model.engine"]
    for index, kind in enumerate(("minShapes", "optShapes", "maxShapes")):
        shapes = [
            f"{name}:{'x'.join(map(str, shape[index]))}"
            for name, shape in settings["profiles"].items()
        ]
        if shapes:
            words.append(f"--{kind}={','.join(shapes)}")
    if numbers < _STRONG_TYPING:
        words += {"float16": ["--fp16"], "int8": ["--int8"]}.get(precision, [])
    elif numbers < _ALWAYS_STRONGLY_TYPED:
        words.append("--stronglyTyped")
    if not settings.get("tf32"):
        words.append("--noTF32")
    if settings.get("workspace_bytes"):
        words.append(f"--memPoolSize=workspace:{settings['workspace_bytes'] // _MIB}")
    if settings.get("dla_core") is not None:
        words.append(f"--useDLACore={settings['dla_core']}")
        words += ["--allowGPUFallback"] if settings.get("gpu_fallback") else []
    return " ".join(map(shlex.quote, words))
