"""From a checkpoint to a verified bundle: the only file that knows the order of the stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tcn_export import extras, machine
from tcn_export.bench import Latency, measure_latency
from tcn_export.bundle import Bundle, Manifest, bundle_path, check_vacant, write_bundle
from tcn_export.data import Windows, load_dataset
from tcn_export.files import check_writable
from tcn_export.graph import Graph, Signature
from tcn_export.options import NOISE, ExportOptions
from tcn_export.parity import windows as parity_windows
from tcn_export.parity.feeds import Feed, SignalScale, noise_windows, stress_set
from tcn_export.parity.fit import check_fit
from tcn_export.parity.gate import Gate, ParityReport, Row, waive
from tcn_export.parity.golden import GOLDEN_FILE, Golden, WindowAnswers, golden_to_bytes
from tcn_export.progress import Progress, Silent
from tcn_export.report.json import REPORT_FILE, report_to_bytes
from tcn_export.targets.base import Artifact, Runner

if TYPE_CHECKING:
    from tcn_export.parity.oracle import Oracle
    from tcn_export.source.base import Source

NOISE_WINDOWS = 256
GOLDEN_WINDOWS = 32
GOLDEN_BYTES = 128 * 1024
"""Real windows kept in the bundle: so many, or as many as fit."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The bundle that was written, and the verdict on it."""

    bundle: Bundle
    report: ParityReport


@dataclass(frozen=True, slots=True)
class _Data:
    """The windows of one export: what calibrates, what judges, and where they come from."""

    name: str
    calibration: Windows | None
    parity: Windows
    kind: Literal["real", "noise"]


def export(
    model: Path | str, options: ExportOptions, progress: Progress | None = None
) -> ExportResult:
    """Export a model, judge it, and write the bundle.

    Args:
        model: A checkpoint of tcn-train.
        options: What to make of it.
        progress: Told of every stage; None tells nobody.

    Returns:
        The bundle and its report. A lost parity is a verdict in the report, not an exception.

    Raises:
        ExportError: What its subclasses say; nothing was written then.
    """
    progress = progress or Silent()
    model = Path(model)
    extras.require("export", "Exporting")
    extras.require("cpu", "Exporting to ONNX Runtime")
    path = bundle_path(
        options.out, options.name or model.stem, options.target, options.precision
    )
    check_vacant(path, options.overwrite)
    check_writable(options.out)

    source, data = _read(model, options, progress)
    graph = _capture(source, options, progress)
    artifact, quantization = _build(graph, data, options, progress)
    golden, report = _judge(source, artifact, data, options, progress)
    latency = _time(artifact, golden, progress)
    manifest = _manifest(source, artifact, data, options, graph, quantization, report, latency)
    files = {
        **artifact.files,
        GOLDEN_FILE: golden_to_bytes(golden),
        REPORT_FILE: report_to_bytes(report),
    }
    with progress.stage("Writing the bundle"):
        return ExportResult(write_bundle(path, manifest, files), report)


def _read(
    model: Path, options: ExportOptions, progress: Progress
) -> tuple[Source, _Data | None]:
    with progress.stage(f"Reading {model.name}"):
        from tcn_export.source.checkpoint import load_source

        source = load_source(model)
        return source, _read_data(source, options)


def _read_data(source: Source, options: ExportOptions) -> _Data | None:
    if options.data is None:
        return None
    if options.data == NOISE:
        length = options.length if isinstance(options.length, int) else source.length
        noise = noise_windows(_scale(source), length, 2 * NOISE_WINDOWS, options.seed)
        halves = Windows(noise[:NOISE_WINDOWS]), Windows(noise[NOISE_WINDOWS:])
        return _Data(NOISE, *halves, "noise")
    dataset = load_dataset(Path(options.data))
    calibration = dataset.calibration if options.precision == "int8" else None
    signature = source.signature.with_length(_length(source, options))
    for windows in filter(None, (calibration, dataset.parity)):
        check_fit(windows, signature, source.task, source.classes, str(options.data))
    return _Data(dataset.name, calibration, dataset.parity, "real")


def _length(source: Source, options: ExportOptions) -> int | None:
    """Steps of the exported window; None where they stay symbolic."""
    if options.length is None:
        return source.length
    return options.length if isinstance(options.length, int) else None


def _capture(source: Source, options: ExportOptions, progress: Progress) -> Graph:
    with progress.stage("Capturing the graph"):
        from tcn_export.capture import capture
        from tcn_export.rewrite.base import run_plan
        from tcn_export.rewrite.plans import PLANS

        graph = capture(source, _length(source, options), options.opset)
        return run_plan(PLANS[options.target], graph)


def _build(
    graph: Graph, data: _Data | None, options: ExportOptions, progress: Progress
) -> tuple[Artifact, dict[str, Any] | None]:
    """Make the artifact, at int8 with what the manifest says about its quantisation."""
    from tcn_export.targets import onnxruntime

    if options.precision == "float32":
        return onnxruntime.build(graph, "float32"), None
    assert data is not None
    assert data.calibration is not None
    from tcn_export.quantize.calibration import calibrate
    from tcn_export.quantize.coverage import measure_coverage
    from tcn_export.quantize.dialects import ORT_X86_VNNI
    from tcn_export.quantize.qdq import quantize

    dialect = ORT_X86_VNNI
    chosen = data.calibration.spread(options.calibration_windows)
    ranges = calibrate(graph, chosen.x, options.calibration, dialect, progress)
    with progress.stage("Quantising"):
        artifact = onnxruntime.build(quantize(graph, ranges, dialect), "int8")
        coverage = measure_coverage(graph, onnxruntime.optimized_model(artifact))
    return artifact, {
        **dialect.to_json(),
        "calibration": ranges.method,
        "windows": ranges.windows,
        "data": data.name,
        "coverage": coverage.to_json(),
    }


def _judge(
    source: Source,
    artifact: Artifact,
    data: _Data | None,
    options: ExportOptions,
    progress: Progress,
) -> tuple[Golden, ParityReport]:
    from tcn_export.parity.oracle import Oracle

    oracle = Oracle(source.module, source.signature)
    gate = Gate(artifact.precision, artifact.signature, source.task == "classification")
    feeds = _feeds(source, artifact.signature, data, options)
    runner = _runner(artifact)
    with progress.stage("Comparing with the eager model", len(feeds)) as advance:
        references = {}
        for feed in feeds:
            references[feed.name] = oracle.run(feed.inputs)
            advance()
        golden = Golden(feeds, references, source.classes)
        rows = gate.judge_golden(golden, runner)
    if data is None:
        return golden, ParityReport(tuple(rows))
    more, answers = _judge_windows(gate, oracle, runner, data, options, progress)
    golden = Golden(feeds, references, source.classes, answers)
    if data.kind == "noise":
        return golden, ParityReport((*rows, *waive(more, "seeded noise")), ("real data",))
    return golden, ParityReport((*rows, *more))


def _judge_windows(
    gate: Gate,
    oracle: Oracle,
    runner: Runner,
    data: _Data,
    options: ExportOptions,
    progress: Progress,
) -> tuple[list[Row], WindowAnswers]:
    name, output = gate.signature.inputs[0].name, gate.signature.outputs[0].name
    windows = data.parity
    with progress.stage(f"Comparing on {data.name}", len(windows)) as advance:
        comparison = parity_windows.compare(
            windows,
            output,
            parity_windows.run_batches(runner, name, output, windows.x, advance),
            oracle.batches(name, windows.x, both=gate.precision == "float32"),
            gate.is_classification,
        )
    rows = parity_windows.judge_comparison(gate, output, windows, comparison, options.max_drop)
    return rows, comparison.oracle


def _feeds(
    source: Source, signature: Signature, data: _Data | None, options: ExportOptions
) -> tuple[Feed, ...]:
    """The golden feeds: the stress set, and some of the windows."""
    spec = signature.inputs[0]
    length = spec.shape[2]
    # A symbolic length has to hold for odd and even lengths, longer and shorter ones.
    lengths = (
        (length,)
        if isinstance(length, int)
        else (source.length, 2 * source.length + 1, max(source.length // 2, 2))
    )
    feeds = stress_set(spec.name, _scale(source), lengths, options.seed)
    if data is None:
        return feeds
    fitting = max(1, GOLDEN_BYTES // data.parity.x[0].nbytes)
    real = data.parity.spread(min(GOLDEN_WINDOWS, fitting)).x
    return (*feeds, Feed(data.kind, data.kind, {spec.name: real}))


def _scale(source: Source) -> SignalScale:
    return SignalScale(source.center, source.spread)


def _runner(artifact: Artifact, threads: int = 0) -> Runner:
    from tcn_export.targets.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(artifact.files[artifact.model], artifact.signature, threads)


def _time(artifact: Artifact, golden: Golden, progress: Progress) -> Latency:
    """Latency of one window on one thread: what a small device has to spare."""
    single = next(feed for feed in golden.feeds if feed.name == "single")
    with progress.stage("Timing"):
        return measure_latency(_runner(artifact, threads=1), single.inputs, threads=1)


def _manifest(
    source: Source,
    artifact: Artifact,
    data: _Data | None,
    options: ExportOptions,
    graph: Graph,
    quantization: dict[str, Any] | None,
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
        target=artifact.target,
        precision=artifact.precision,
        mode=artifact.mode,
        model=artifact.model,
        task=source.task,
        signature=artifact.signature,
        classes=source.classes,
        sample_rate_hz=source.sample_rate_hz,
        source={
            "file": source.path.name,
            "kind": source.kind,
            "sha256": source.sha256,
            "architecture": source.architecture,
            "parameters": source.parameters,
        },
        tools=machine.tools(),
        host=machine.host(),
        rewrites=tuple(step.to_json() for step in graph.history),
        quantization=quantization,
        parity={**report.to_json(), "max_drop": options.max_drop, "data": judged_on},
        latency=latency.to_json(),
        verified=report.verified,
        waived=report.waived,
    )
