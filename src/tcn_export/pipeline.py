"""From a checkpoint to a verified bundle: the only file that knows the order of the stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tcn_export import extras
from tcn_export.bench import Latency, measure_latency
from tcn_export.bundle import Bundle, bundle_path, check_vacant, write_bundle
from tcn_export.deploying import (
    engine_latency,
    engine_settings,
    integer_coverage,
    kit_files,
)
from tcn_export.describing import describe
from tcn_export.errors import UsageError
from tcn_export.export_data import ExportData, informed, read_export_data
from tcn_export.files import check_writable
from tcn_export.graph import Graph
from tcn_export.halving import halve
from tcn_export.judging import Stages, judge
from tcn_export.measuring import measure_dependence
from tcn_export.options import DYNAMIC, ExportOptions
from tcn_export.parity.golden import GOLDEN_FILE, Golden, golden_to_bytes
from tcn_export.parity.rows import ON_THE_DEVICE, ParityReport
from tcn_export.progress import Progress, Silent
from tcn_export.quantizing import quantize_graph
from tcn_export.report.json import REPORT_FILE, report_to_bytes
from tcn_export.targets import load_target
from tcn_export.targets.base import Artifact

if TYPE_CHECKING:
    from tcn_export.source.base import Source


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The bundle that was written, and the verdict on it."""

    bundle: Bundle
    report: ParityReport


@dataclass(frozen=True, slots=True)
class _Built:
    """The artifact with its graph, what is judged beside it, and how it was made."""

    artifact: Artifact
    graph: Graph
    stages: Stages = Stages()  # noqa: RUF009 - frozen
    quantization: dict[str, Any] | None = None
    engine: str | None = None
    builder: Mapping[str, Any] | None = None


def export(
    model: Path | str | None, options: ExportOptions, progress: Progress | None = None
) -> ExportResult:
    """Export a model, judge it, and write the bundle.

    Args:
        model: A checkpoint of tcn-train; None where ``options.factory`` makes the network.
        options: What to make of it.
        progress: Told of every stage; None tells nobody.

    Returns:
        The bundle and its report. A lost parity is a verdict in the report, not an exception.

    Raises:
        ExportError: What its subclasses say; nothing was written then.
    """
    progress = progress or Silent()
    name = _name(model, options)
    extras.require("export", "Exporting")
    load_target(options.target).check_available()  # told before any work is spent
    path = bundle_path(options.out, name, options.target, options.precision)
    check_vacant(path, options.overwrite)
    check_writable(options.out)

    with progress.stage(f"Reading {model or options.factory}"):
        source = read_source(model, options)
        length = _length(source, options)
        data = read_export_data(source, source.signature.with_length(length), options)
        source = informed(source, data)
    with progress.stage("Capturing the graph"):
        captured, graph = _capture(source, length, options)
    with progress.stage("Measuring what the outputs depend on"):
        dependence = measure_dependence(source, captured, options.seed)
    built = _build(graph, source, data, options, progress)
    golden, report = judge(source, built.artifact, built.stages, data, options, progress)
    if report.missing and options.bundle_only:
        report = replace(report, waived=(*report.waived, ON_THE_DEVICE))
    latency = None
    if not report.missing:
        with progress.stage("Timing"):
            latency = _time(built.artifact, golden)
            if options.target == "trt":
                both = engine_latency(built.artifact, golden)
                built = replace(built, builder={**(built.builder or {}), "latency": both})
    manifest = describe(
        source, built.artifact, built.graph, data, options, report, latency,
        quantization=built.quantization, engine=built.engine, builder=built.builder,
        **dependence.to_json(),
    )  # fmt: skip
    files = {
        **built.artifact.files,
        GOLDEN_FILE: golden_to_bytes(golden),
        REPORT_FILE: report_to_bytes(report),
        **(kit_files(manifest) if options.target == "trt" else {}),
    }
    with progress.stage("Writing the bundle"):
        return ExportResult(write_bundle(path, manifest, files, options.overwrite), report)


def _name(model: Path | str | None, options: ExportOptions) -> str:
    """Name of the bundle: the user's, the model file's or the factory's."""
    if model is not None and options.factory is not None:
        raise UsageError(
            f"{model} and --factory {options.factory} were given: weights for a factory "
            "cannot be read from a file yet. Leave MODEL out, and let the factory load them."
        )
    if model is None and options.factory is None:
        raise UsageError(
            "nothing to export: give MODEL, a checkpoint of tcn-train, or --factory "
            "MODULE:NAME with --input-shape CHANNELS,LENGTH."
        )
    if options.name is not None:
        return options.name
    if model is not None:
        return Path(model).stem
    assert options.factory is not None
    return options.factory.partition(":")[2]


def read_source(model: Path | str | None, options: ExportOptions) -> Source:
    """Read the file that was given, or let the factory make the network."""
    if model is not None:
        from tcn_export.source.checkpoint import load_source

        return load_source(Path(model))
    from tcn_export.source.foreign import load_factory

    assert options.factory is not None
    assert options.input_shape is not None
    return load_factory(
        options.factory,
        options.input_shape,
        options.task or "classification",
        options.factory_args,
        options.length if isinstance(options.length, int) else None,
        is_dynamic=options.length == DYNAMIC,
    )


def _length(source: Source, options: ExportOptions) -> int | None:
    """Steps of the exported window; None where they stay symbolic."""
    if options.length is None:
        return source.length
    return options.length if isinstance(options.length, int) else None


def _capture(
    source: Source, length: int | None, options: ExportOptions
) -> tuple[Graph, Graph]:
    """The graph as it was captured, and as the target gets it."""
    from tcn_export.capture import capture
    from tcn_export.rewrite.base import run_plan
    from tcn_export.rewrite.plans import PLANS

    is_wide = options.target == "trt" and options.trt.layout == "2d"
    plan = PLANS[f"{options.target}-2d" if is_wide else options.target]
    captured = capture(source, length, options.operator_set)
    return captured, run_plan(plan, captured)


def _build(
    graph: Graph,
    source: Source,
    data: ExportData | None,
    options: ExportOptions,
    progress: Progress,
) -> _Built:
    """Convert to the precision, and make the artifact."""
    target = load_target(options.target)
    # What TensorRT gets is judged on the CPU first: the same file means the same everywhere.
    cpu = load_target("onnx") if options.target == "trt" else target
    stages, converted, how = Stages(), graph, None
    if options.precision != "float32":
        stages = Stages(before=cpu.build(graph, "float32"))
    if options.precision == "float16":
        converted, rounded = halve(graph, source, data, options, progress)
        if options.target != "cuda":  # which rounds by itself
            stages = replace(stages, rounded=cpu.build(rounded, "float16"))
    elif options.precision == "int8":
        assert data is not None
        converted, how = quantize_graph(graph, data, options, progress)
    if options.target == "trt":
        stages = replace(stages, on_the_cpu=cpu.build(converted, options.precision))
        return _deploy(converted, stages, how, source, data, options, progress)
    settings = {"cuda_graph": True} if options.cuda_graph else {}
    artifact = target.build(converted, options.precision, settings)
    if how is not None:
        from tcn_export.quantize.coverage import measure_coverage
        from tcn_export.targets.onnxruntime import optimized_model

        how["coverage"] = measure_coverage(graph, optimized_model(artifact)).to_json()
    return _Built(artifact, converted, stages, how)


def _deploy(
    graph: Graph,
    stages: Stages,
    how: dict[str, Any] | None,
    source: Source,
    data: ExportData | None,
    options: ExportOptions,
    progress: Progress,
) -> _Built:
    """Bring a graph as far towards an engine as this machine can."""
    from tcn_export.targets.tensorrt.deployment import deploy

    settings = engine_settings(source, graph, data, options)
    artifact = load_target("trt").build(graph, options.precision, settings)
    deployment = deploy(artifact, graph.model, progress, not options.bundle_only)
    if how is not None:
        how["coverage"] = integer_coverage(graph, deployment)
    return _Built(
        deployment.artifact,
        graph,
        replace(stages, missing=deployment.missing and deployment.engine),
        how,
        deployment.engine,
        deployment.builder,
    )


def _time(artifact: Artifact, golden: Golden) -> Latency:
    """Latency of one window on one thread: what a small device has to spare."""
    single = next(feed for feed in golden.feeds if feed.name == "single")
    runner = load_target(artifact.target).runner(artifact, threads=1)
    return measure_latency(runner, single.inputs, threads=1)
