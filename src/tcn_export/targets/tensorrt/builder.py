"""An ONNX model becomes an engine: parsed, strongly typed, built, in this process.

Precision comes from the graph alone: no flag of the builder changes it (TensorRT 11 has none
left). Runs unchanged with TensorRT 10.3 to 11 and with TensorRT for RTX; a build may crash the
interpreter, so `worker` calls it in a process of its own.

Part of ``build_engine.py``: Python 3.8, standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tcn_export.targets.tensorrt.journal import Journal, created, make_logger
from tcn_export.targets.tensorrt.request import BuildRequest


class BuildError(Exception):
    """NVIDIA's parser or builder refused the model; the message is theirs."""


@dataclass(frozen=True)
class Convolution:
    """A convolution as NVIDIA's parser understood it, along every spatial axis."""

    name: str
    kernel: list[int]
    stride: list[int]
    dilation: list[int]
    pads_before: list[int]
    pads_after: list[int]
    groups: int


@dataclass(frozen=True)
class Built:
    """What came out of a build.

    Attributes:
        plan: The serialised engine.
        version: Of the library that built it.
        convolutions: All of them, as parsed.
        layers: The builder's own account of the layers it chose; "" where it gives none.
        log: Warnings and errors of the build.
    """

    plan: bytes
    version: str
    convolutions: list[Convolution]
    layers: str
    log: list[str] = field(default_factory=list)


def build_plan(trt: Any, request: BuildRequest, report: Callable[[float], None]) -> Built:
    """Parse and build.

    Args:
        trt: The imported module that ``request`` names.
        request: What to build.
        report: Told which share of the build is done, from 0 to 1.

    Raises:
        BuildError: The parser or the builder refused.
        TargetUnavailableError: The library does not work on this machine.
    """
    journal = Journal()
    logger = make_logger(trt, journal)
    builder = created(trt, lambda: trt.Builder(logger), journal)
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strongly_typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(request.model):
        raise BuildError(_parser_problems(parser) or journal.problems())
    config = _configure(trt, builder, request)
    config.progress_monitor = _make_monitor(trt, report)
    host_memory = builder.build_serialized_network(network, config)
    if host_memory is None:
        raise BuildError(journal.problems())
    _keep_timing_cache(config, request)
    return Built(
        bytes(host_memory),
        trt.__version__,
        parsed_convolutions(trt, network),
        journal.layers,
        journal.remarks,
    )


def _configure(trt: Any, builder: Any, request: BuildRequest) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not request.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if request.profiles:
        profile = builder.create_optimization_profile()
        for name, (smallest, usual, largest) in request.profiles.items():
            profile.set_shape(name, smallest, usual, largest)
        if config.add_optimization_profile(profile) < 0:
            raise BuildError(f"the shapes {request.profiles} do not fit the model's inputs")
    # TensorRT for RTX knows no accelerator: it is asked for the graph alone.
    if request.dla_core is not None and request.runtime == "tensorrt":
        if request.dla_core >= builder.num_DLA_cores:
            raise BuildError(
                f"there is no accelerator {request.dla_core}: this device has "
                f"{builder.num_DLA_cores} under TensorRT {trt.__version__}"
            )
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = request.dla_core
        if request.gpu_fallback:
            config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    _use_timing_cache(config, request)
    return config


def _use_timing_cache(config: Any, request: BuildRequest) -> None:
    # TensorRT for RTX times nothing while it builds; its cache is deprecated and empty.
    if request.timing_cache is None or request.runtime != "tensorrt":
        return
    content = b""
    if os.path.exists(request.timing_cache):
        with open(request.timing_cache, "rb") as file:
            content = file.read()
    timing_cache = config.create_timing_cache(content)
    # False: a cache of another GPU or version is refused rather than believed.
    if timing_cache is None or not config.set_timing_cache(timing_cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _keep_timing_cache(config: Any, request: BuildRequest) -> None:
    if request.timing_cache is None or request.runtime != "tensorrt":
        return
    content = bytes(config.get_timing_cache().serialize())
    temporary = f"{request.timing_cache}.{os.getpid()}.tmp"
    with suppress(OSError):  # the engine is worth more than the time of the next build
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, request.timing_cache)


def parsed_convolutions(trt: Any, network: Any) -> list[Convolution]:
    """All convolutions of a parsed network, in its order."""
    found = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type != trt.LayerType.CONVOLUTION:
            continue
        convolution = _as_convolution(trt, layer)
        found.append(
            Convolution(
                convolution.name,
                list(convolution.kernel_size_nd),
                list(convolution.stride_nd),
                list(convolution.dilation_nd),
                list(convolution.pre_padding),
                list(convolution.post_padding),
                convolution.num_groups,
            )
        )
    return found


def _parser_problems(parser: Any) -> str:
    problems = [parser.get_error(index) for index in range(parser.num_errors)]
    return "; ".join(
        f"node `{problem.node_name()}` ({problem.node_operator()}): {problem.desc()}"
        for problem in problems
    )


def _as_convolution(trt: Any, layer: Any) -> Any:
    layer.__class__ = trt.IConvolutionLayer  # the bindings give the base class
    return layer


def _make_monitor(trt: Any, report: Callable[[float], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Adds nested phases up to one share of the whole."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._phases: dict[str, tuple[str | None, int, int]] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            """Begin a phase within a step of its parent."""
            self._phases[phase] = (parent, 0, max(steps, 1))

        def step_complete(self, phase: str, step: int) -> bool:
            """Note a finished step; True lets the build go on."""
            if phase in self._phases:
                parent, _, steps = self._phases[phase]
                self._phases[phase] = (parent, step + 1, steps)
                report(min(self._share(), 1.0))
            return True

        def phase_finish(self, phase: str) -> None:
            """End a phase."""
            self._phases.pop(phase, None)

        def _share(self) -> float:
            share, weight = 0.0, 1.0
            for parent, done, steps in list(self._phases.values()):
                if parent is None or parent in self._phases:
                    share += weight * done / steps
                    weight /= steps
            return share

    return Monitor()
