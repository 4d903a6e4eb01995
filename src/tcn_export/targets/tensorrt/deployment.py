"""From a finished graph to an engine where there is a device; else to a checked graph.

With a device: built, loaded, inspected; parity and time are asked of it by others. Without:
NVIDIA's own parser and builder are asked on the CPU where TensorRT for RTX is installed, and
nothing is called an engine.
"""

from __future__ import annotations

import importlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from tcn_export.errors import TargetUnavailableError, UnsupportedModelError
from tcn_export.progress import Progress
from tcn_export.targets.base import Artifact
from tcn_export.targets.model_file import MODEL_FILE
from tcn_export.targets.tensorrt import dla
from tcn_export.targets.tensorrt.builder import BuildError, Built, Convolution
from tcn_export.targets.tensorrt.kernels import (
    Kernel,
    convolution_types,
    count_reformats,
    kernels_of_engine,
    read_printed,
)
from tcn_export.targets.tensorrt.lint import lint, require_clean
from tcn_export.targets.tensorrt.probe import RTX, Probe, probe
from tcn_export.targets.tensorrt.request import make_request
from tcn_export.targets.tensorrt.runner import open_engine
from tcn_export.targets.tensorrt.sidecar import ENGINE_FILE, SIDECAR_FILE, make_sidecar
from tcn_export.targets.tensorrt.versions import VERSIONS, version_name
from tcn_export.targets.tensorrt.worker import build_in_child

NOT_EXECUTED = "the engine was not executed"


@dataclass(frozen=True, slots=True)
class Deployment:
    """An artifact as far as this machine can bring it.

    Attributes:
        artifact: With the engine, if one was built.
        engine: Whether there is one, in words; for the manifest.
        missing: Why there is none; "" where there is one.
        builder: What NVIDIA's code said; for the manifest.
        convolutions: Arithmetic of each convolution as NVIDIA's builder chose it, by node;
            None where it was not asked.
    """

    artifact: Artifact
    engine: str
    missing: str
    builder: Mapping[str, Any]
    convolutions: Mapping[str, str] | None


def deploy(
    artifact: Artifact, model: ir.Model, progress: Progress, build_here: bool = True
) -> Deployment:
    """Lint a graph, and build it as far as this machine can.

    Args:
        artifact: With `MODEL_FILE` and the settings of a TensorRT export.
        model: The graph in it, with inferred types.
        progress: Told how far the build is.
        build_here: Build an engine where there is a device; else prepare a kit for another.

    Raises:
        UnsupportedModelError: Our lint, NVIDIA's parser or its builder refuses the graph.
        UsageError: The accelerator was asked for and cannot take it.
    """
    settings = artifact.settings
    found = probe()
    missing = found.why_not(settings["runtime"])
    module = found.runtime(settings["runtime"])
    notes = check(model, artifact.precision, settings, settings["version"])
    how = "not built"
    if not build_here:
        missing = missing or "a kit was asked for"
    if missing is None and module is not None:
        here = version_name(module, found.libraries[module])
        check(model, artifact.precision, settings, here)
        try:
            return _build_here(artifact, model, module, found, notes, progress)
        except TargetUnavailableError as error:  # the kit is still worth having
            missing, how = str(error), "not kept"
    engine = f"{how}: {missing}"
    if RTX not in found.libraries:
        parser = "not asked: tensorrt_rtx is not installed"
        return Deployment(artifact, engine, str(missing), {**notes, "parser": parser}, None)
    with progress.stage("Asking NVIDIA's parser"):
        try:
            built = _build(artifact, RTX, progress=None)
        except TargetUnavailableError as error:  # a courtesy: the kit does not hang on it
            notes["parser"] = f"not asked: {error}"
            return Deployment(artifact, engine, str(missing), notes, None)
    _require_equal(model, built.convolutions)
    types = convolution_types(read_printed(built.layers), _convolution_names(model))
    notes |= {
        "parser": f"accepted by NVIDIA's parser ({RTX} {built.version}); {NOT_EXECUTED}",
        "convolutions": types,
        "log": built.log,
    }
    return Deployment(artifact, engine, str(missing), notes, types)


def check(
    model: ir.Model, precision: str, settings: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """Hold a graph to the dialect of a version, one of `VERSIONS`.

    Returns:
        What falls back from an accelerator, for the manifest.

    Raises:
        UnsupportedModelError: TensorRT would refuse it; names the nodes.
        UsageError: The accelerator was asked for and cannot take it.
    """
    version = VERSIONS[name]
    require_clean(lint(model, version, settings["profiles"]), version)
    if settings["dla_core"] is None:
        return {}
    falling = dla.check(
        model, version, precision, settings["profiles"], settings["gpu_fallback"]
    )
    return {"gpu_fallback": [str(finding) for finding in falling]}


def _build_here(
    artifact: Artifact,
    model: ir.Model,
    module: str,
    found: Probe,
    notes: dict[str, Any],
    progress: Progress,
) -> Deployment:
    built = _build(artifact, module, progress)
    _require_equal(model, built.convolutions)
    device = found.driver.devices[0]
    sidecar = make_sidecar(
        built.plan,
        artifact.files[MODEL_FILE],
        module,
        built.version,
        device,
        found.driver.version,
        artifact.settings,
    )
    files = {
        **artifact.files,
        ENGINE_FILE: built.plan,
        SIDECAR_FILE: json.dumps(sidecar, indent=2).encode(),
    }
    artifact = replace(artifact, files=files)
    kernels = _inspect(artifact, module)
    types = convolution_types(kernels, _convolution_names(model))
    where = f"{device.name} (SM {device.compute_capability})"
    notes |= {
        "parser": f"built by {module} {built.version}",
        "convolutions": types,
        "reformats": count_reformats(kernels),
        "device": device.to_json(),
        "driver": found.driver.version,
        "log": built.log,
    }
    return Deployment(
        artifact, f"built with {module} {built.version} on {where}", "", notes, types
    )


def _inspect(artifact: Artifact, module: str) -> list[Kernel]:
    runner = open_engine(artifact, cuda_graph=False)
    usual = {name: shapes[1] for name, shapes in artifact.settings["profiles"].items()}
    zeros = {
        spec.name: np.zeros(usual.get(spec.name, spec.shape), spec.dtype)
        for spec in artifact.signature.inputs
    }
    runner.run(zeros)  # sets the shapes that the inspector wants to know
    loaded = runner.loaded
    kernels = kernels_of_engine(importlib.import_module(module), loaded.engine, loaded.context)
    loaded.close()
    return kernels


def _build(artifact: Artifact, module: str, progress: Progress | None) -> Built:
    with tempfile.TemporaryDirectory(prefix="tcn-export-") as folder:
        path = Path(folder) / MODEL_FILE
        path.write_bytes(artifact.files[MODEL_FILE])
        request = make_request(str(path), module, artifact.settings, _timing_cache(module))
        try:
            if progress is None:
                return build_in_child(request, lambda _: None)
            with progress.stage("Building the engine", 100) as advance:
                done = 0

                def report(share: float) -> None:
                    nonlocal done
                    percent = int(share * 100)
                    if percent > done:  # nested phases may seem to step back
                        advance(percent - done)
                        done = percent

                return build_in_child(request, report)
        except BuildError as error:
            raise UnsupportedModelError(
                f"NVIDIA's parser or builder ({module}) gave up: {error}. If it refuses the "
                "graph, our lint should have told before: please report it."
            ) from error


def _timing_cache(module: str) -> str | None:
    """A file of the user's cache: what was timed once need not be timed for the next export.

    TensorRT itself refuses what another device or version timed. TensorRT for RTX times
    nothing.
    """
    if module == RTX:
        return None
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "tcn-export"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written costs time, and nothing else
        return None
    return str(folder / f"{module}.timing")


def _convolution_names(model: ir.Model) -> list[str]:
    return [node.name or "" for node in model.graph if node.op_type == "Conv"]


def _require_equal(model: ir.Model, parsed: Iterable[Convolution]) -> None:
    """Raise `UnsupportedModelError` where the parser understood a convolution otherwise."""
    understood = {convolution.name: convolution for convolution in parsed}
    for node in model.graph:
        if node.op_type != "Conv":
            continue
        ours, theirs = _geometry(node), understood.get(node.name or "")
        if theirs is None or ours != _along_time(theirs, node):
            raise UnsupportedModelError(
                f"NVIDIA's parser understood the convolution `{node.name}` as {theirs}; "
                f"expected kernel, stride, dilation, pads and groups {ours}. Report it."
            )


def _geometry(node: ir.Node) -> tuple[list[int], ...]:
    """Kernel, stride, dilation, pads in front and behind along time; and groups."""
    weight = node.inputs[1]
    assert weight is not None
    assert weight.shape is not None
    axes = len(weight.shape) - 2
    kernel = [int(str(size)) for size in weight.shape[2:]]
    pads = list(node.attributes.get_ints("pads", [0] * 2 * axes))
    along = slice(axes - 1, axes)  # the last axis is time; the height of a 2-D form is 1
    return (
        kernel[along],
        list(node.attributes.get_ints("strides", [1] * axes))[along],
        list(node.attributes.get_ints("dilations", [1] * axes))[along],
        pads[:axes][along],
        pads[axes:][along],
        [node.attributes.get_int("group", 1)],
    )


def _along_time(parsed: Convolution, node: ir.Node) -> tuple[list[int], ...]:
    """The same of a parsed convolution: its second axis is behind time, or the 2-D height."""
    weight = node.inputs[1]
    assert weight is not None
    assert weight.shape is not None
    time = 0 if len(weight.shape) == 3 else 1
    fields = (
        parsed.kernel, parsed.stride, parsed.dilation, parsed.pads_before, parsed.pads_after,
    )  # fmt: skip
    return (*([values[time]] for values in fields), [parsed.groups])
