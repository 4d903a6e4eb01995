"""From a checkpoint to a verified bundle: the only file that knows the order of the stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tcn_export import extras
from tcn_export.bench import Latency, measure_latency
from tcn_export.bundle import Bundle, bundle_path, check_vacant, write_bundle
from tcn_export.choosing import make
from tcn_export.cut_source import cut_source
from tcn_export.deploying import engine_latency, kit_files
from tcn_export.describing import describe
from tcn_export.export_data import informed, read_export_data
from tcn_export.files import check_writable
from tcn_export.graph import LENGTH, Graph, Signature
from tcn_export.making import Workshop
from tcn_export.measuring import measure_dependence
from tcn_export.options import ExportOptions
from tcn_export.parity.golden import GOLDEN_FILE, Golden, golden_to_bytes
from tcn_export.parity.rows import ON_THE_DEVICE, ParityReport
from tcn_export.progress import Progress, Silent
from tcn_export.referring import refer
from tcn_export.report.html import HTML_FILE, html_bytes
from tcn_export.report.json import REPORT_FILE, report_to_bytes
from tcn_export.source.reading import kind_of, read_source
from tcn_export.streaming_forms import stream_forms, whole_signals
from tcn_export.targets import load_target, timed
from tcn_export.targets.base import Artifact
from tcn_export.targets.streamed import chunks
from tcn_export.tracing import trace_layers

if TYPE_CHECKING:
    from tcn_export.source.base import Source


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The bundle that was written, and the verdict on it."""

    bundle: Bundle
    report: ParityReport


def export(
    model: Path | str | None, options: ExportOptions, progress: Progress | None = None
) -> ExportResult:
    """Export a model, judge it, and write the bundle.

    Args:
        model: A checkpoint of tcn-train, a state dict for ``options.factory``, an .onnx or
            .pt2 file; None where the factory makes the network, weights and all.
        options: What to make of it.
        progress: Told of every stage; None tells nobody.

    Returns:
        The bundle and its report. A lost parity is a verdict in the report, not an exception.

    Raises:
        ExportError: What its subclasses say; nothing was written then.
    """
    progress = progress or Silent()
    model = Path(model) if model is not None else None
    name = _name(model, options)
    extras.require("export", "Exporting")
    load_target(options.target).check_available()  # told before any work is spent
    hop = options.steps_per_hop if options.mode == "stream" else None
    path = bundle_path(options.out, name, options.target, options.precision, hop)
    check_vacant(path, options.overwrite)
    check_writable(options.out)

    with progress.stage(f"Reading {model or options.factory}"):
        source = read_source(model, options.told)
        length = _length(source, options)
        data = read_export_data(source, _judged(source, length, options), options)
        source = informed(source, data)
    with progress.stage("Capturing the graph"):
        captured = _capture(source, length, options)
    with progress.stage("Measuring what the outputs depend on"):
        dependence = measure_dependence(source, captured, options.seed)
    if options.mode == "stream":  # whose signals have any length
        dependence = replace(dependence, is_dynamic=True)
    graph = _simplify(captured, options)
    judged, truth = _judged(source, length, options), source
    if options.mode == "stream":
        forms = stream_forms(graph, options)
        judged = whole_signals(judged, forms)
        data = (
            None
            if data is None
            else data.for_stream(forms.signature, forms.unreached_of_first)
        )
        truth = cut_source(source, forms.cuts, options.operator_set, options.seed)
        source = replace(source, notes=truth.notes)
    references = refer(truth, judged, data, options, progress)
    references = replace(references, receptive_field=dependence.receptive_field)
    made = make(Workshop(graph, source, data, references, options, progress))
    built, golden, report = made.built, made.golden, made.report
    if report.missing and options.bundle_only:
        report = replace(report, waived=(*report.waived, ON_THE_DEVICE))
    traced = trace_layers(built.artifact, built.stages, golden, progress)
    report = replace(report, layers=traced.entries)
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
        candidates=made.candidates, layout=built.layout_entry(), hop=hop, stream=built.stream,
        **dependence.to_json(),
    )  # fmt: skip
    files = {
        **built.artifact.files,
        **built.choice.files(),
        **traced.files,
        GOLDEN_FILE: golden_to_bytes(golden),
        REPORT_FILE: report_to_bytes(report),
        **(kit_files(manifest) if options.target == "trt" else {}),
    }
    files[HTML_FILE] = html_bytes(Bundle(path, manifest, files), report)
    with progress.stage("Writing the bundle"):
        return ExportResult(write_bundle(path, manifest, files, options.overwrite), report)


def _name(model: Path | None, options: ExportOptions) -> str:
    """Name of the bundle: the user's, the model file's or the factory's."""
    kind_of(model, options.told)  # before any work: does it go together?
    if options.name is not None:
        return options.name
    if model is not None:
        return model.stem
    assert options.factory is not None
    return options.factory.partition(":")[2]


def _length(source: Source, options: ExportOptions) -> int | None:
    """Steps of the exported window; None where they stay symbolic."""
    if options.mode == "stream":
        length = options.length if isinstance(options.length, int) else source.length
        if source.signature.inputs[0].shape[2] != LENGTH:
            return length
        # Whole hops: a crop to a part of the window would else mean another one in the stream.
        hop = options.steps_per_hop
        return max(length - length % hop, hop)
    if options.length is None:
        return source.length
    return options.length if isinstance(options.length, int) else None


def _judged(source: Source, length: int | None, options: ExportOptions) -> Signature:
    """What windows are judged as: a stream takes any signal that the network takes."""
    if options.mode == "stream" and source.signature.inputs[0].shape[2] == LENGTH:
        length = None
    return source.signature.with_length(length)


def _capture(source: Source, length: int | None, options: ExportOptions) -> Graph:
    """The graph of a network, with its outputs and inputs as the model has them."""
    from tcn_export.capture import capture

    return capture(source, length, options.operator_set)


def _simplify(captured: Graph, options: ExportOptions) -> Graph:
    """A graph with what its target needs rewritten, and the steps that its outputs demand."""
    from tcn_export.rewrite.base import run, run_plan
    from tcn_export.rewrite.last_step import LastStep
    from tcn_export.rewrite.plans import PLANS, STREAM

    if options.mode == "stream":
        return run_plan(STREAM, captured)
    graph = run_plan(PLANS[options.target], captured)
    if options.keep_all_steps:
        return graph
    axes = {spec.name: spec.time_axis for spec in graph.signature.inputs}
    return run(LastStep(axes), graph)


def _time(artifact: Artifact, golden: Golden) -> Latency:
    """Latency of one window, or one hop, on one thread: what a small device has to spare."""
    runner = load_target(artifact.target).runner(artifact, threads=1)
    feeds = golden.single.inputs
    if artifact.mode == "stream":
        feeds = chunks(artifact.signature, feeds, 0)
        runner = timed(runner, artifact.signature, feeds)
    return measure_latency(runner, feeds, threads=1)
