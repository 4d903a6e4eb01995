"""From a checkpoint to a verified bundle: the only file that knows the order of the stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tcn_export import extras, machine
from tcn_export.bench import Latency, measure_latency
from tcn_export.bundle import Bundle, bundle_path, check_vacant, write_bundle
from tcn_export.errors import UsageError
from tcn_export.export_data import ExportData, informed, read_export_data
from tcn_export.files import check_writable
from tcn_export.graph import Graph
from tcn_export.halving import halve
from tcn_export.judging import Stages, judge
from tcn_export.manifest import Manifest
from tcn_export.options import DYNAMIC, ExportOptions
from tcn_export.parity.golden import GOLDEN_FILE, Golden, golden_to_bytes
from tcn_export.parity.rows import ParityReport
from tcn_export.progress import Progress, Silent
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
    """The artifact with its graph, what is judged beside it, and how int8 was made."""

    artifact: Artifact
    graph: Graph
    stages: Stages = Stages()  # noqa: RUF009 - frozen
    quantization: dict[str, Any] | None = None


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
        source = _read_source(model, options)
        length = _length(source, options)
        data = read_export_data(source, source.signature.with_length(length), options)
        source = informed(source, data)
    with progress.stage("Capturing the graph"):
        graph = _capture(source, length, options)
    built = _build(graph, source, data, options, progress)
    golden, report = judge(source, built.artifact, built.stages, data, options, progress)
    with progress.stage("Timing"):
        latency = _time(built.artifact, golden)
    manifest = _manifest(source, built, data, options, report, latency)
    files = {
        **built.artifact.files,
        GOLDEN_FILE: golden_to_bytes(golden),
        REPORT_FILE: report_to_bytes(report),
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


def _read_source(model: Path | str | None, options: ExportOptions) -> Source:
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


def _capture(source: Source, length: int | None, options: ExportOptions) -> Graph:
    from tcn_export.capture import capture
    from tcn_export.rewrite.base import run_plan
    from tcn_export.rewrite.plans import PLANS

    return run_plan(PLANS[options.target], capture(source, length, options.opset))


def _build(
    graph: Graph,
    source: Source,
    data: ExportData | None,
    options: ExportOptions,
    progress: Progress,
) -> _Built:
    target = load_target(options.target)
    settings = {"cuda_graph": True} if options.cuda_graph else {}
    plain = target.build(graph, "float32", settings)
    if options.precision == "float32":
        return _Built(plain, graph)
    if options.precision == "float16":
        half, rounded = halve(graph, source, data, options, progress)
        stages = Stages(plain, target.build(rounded, "float16"))
        return _Built(target.build(half, "float16"), half, stages)
    assert data is not None
    assert data.calibration is not None
    from tcn_export.quantize.calibration import calibrate
    from tcn_export.quantize.coverage import measure_coverage
    from tcn_export.quantize.dialects import ORT_X86_VNNI
    from tcn_export.quantize.qdq import quantize
    from tcn_export.targets.onnxruntime import optimized_model

    dialect = ORT_X86_VNNI
    chosen = data.calibration.spread(options.calibration_windows)
    ranges = calibrate(graph, chosen.x, options.calibration, dialect, progress)
    with progress.stage("Quantising"):
        quantized = quantize(graph, ranges, dialect)
        artifact = target.build(quantized, "int8", settings)
        coverage = measure_coverage(graph, optimized_model(artifact))
    how = {
        **dialect.to_json(),
        "calibration": ranges.method,
        "windows": ranges.windows,
        "data": data.name,
        "coverage": coverage.to_json(),
    }
    return _Built(artifact, quantized, Stages(plain), how)


def _time(artifact: Artifact, golden: Golden) -> Latency:
    """Latency of one window on one thread: what a small device has to spare."""
    single = next(feed for feed in golden.feeds if feed.name == "single")
    runner = load_target(artifact.target).runner(artifact, threads=1)
    return measure_latency(runner, single.inputs, threads=1)


def _manifest(
    source: Source,
    built: _Built,
    data: ExportData | None,
    options: ExportOptions,
    report: ParityReport,
    latency: Latency,
) -> Manifest:
    judged_on = None
    if data is not None:
        judged_on = {
            "name": data.name,
            "sha256": data.parity.digest(),
            "windows": len(data.parity),
            "labelled": data.parity.y is not None,
        }
    return Manifest(
        name=options.name or source.name,
        target=built.artifact.target,
        precision=built.artifact.precision,
        mode=built.artifact.mode,
        model=built.artifact.model,
        settings=built.artifact.settings,
        task=source.task,
        signature=built.artifact.signature,
        classes=source.classes,
        sample_rate_hz=source.sample_rate_hz,
        source={
            "file": "".join(c if c.isprintable() else "?" for c in Path(source.origin).name),
            "kind": source.kind,
            "sha256": source.sha256,
            "architecture": source.architecture,
            "parameters": source.parameters,
            **({"arguments": dict(source.config)} if source.kind == "factory" else {}),
        },
        tools=machine.tools(),
        host=machine.host(),
        rewrites=tuple(step.to_json() for step in built.graph.history),
        quantization=built.quantization,
        parity={**report.to_json(), "max_drop": options.max_drop, "data": judged_on},
        latency=latency.to_json(),
        verified=report.verified,
        waived=report.waived,
    )
