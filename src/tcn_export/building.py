"""From a simplified graph to an artifact: precision, layout, target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tcn_export.deploying import engine_settings, integer_coverage
from tcn_export.export_data import ExportData, one_window
from tcn_export.graph import Graph
from tcn_export.halving import halve_graphs
from tcn_export.judging import Stages
from tcn_export.laying_out import Choice, choose, layouts
from tcn_export.options import ExportOptions
from tcn_export.progress import Progress
from tcn_export.quantize.recipe import Recipe
from tcn_export.quantizing import equalized, quantize_graphs, quantize_stream
from tcn_export.streaming_forms import (
    StreamForms,
    choose_form,
    describe_stream,
    longer_hop,
    stream_forms,
)
from tcn_export.targets import load_target
from tcn_export.targets.base import Artifact

if TYPE_CHECKING:
    from tcn_export.source.base import Source


@dataclass(frozen=True, slots=True)
class Built:
    """An artifact with its graph, what is judged beside it, and how it was made.

    ``choice`` is the layout that was taken, or the form of a stream's states;
    ``quantization``, ``engine``, ``builder`` and ``stream`` are as the manifest has them.
    """

    artifact: Artifact
    graph: Graph
    choice: Choice
    stages: Stages
    quantization: dict[str, Any] | None = None
    engine: str | None = None
    builder: Mapping[str, Any] | None = None
    stream: Mapping[str, Any] | None = None

    def layout_entry(self) -> dict[str, Any] | None:
        """What the manifest says of the layout; a stream has none."""
        return None if self.stream else self.choice.to_json(self.artifact.model)


def build(
    graph: Graph,
    source: Source,
    data: ExportData | None,
    options: ExportOptions,
    recipe: Recipe,
    progress: Progress,
) -> Built:
    """Convert a graph to the precision, in every layout, and take the fastest.

    Args:
        graph: The float32 graph, simplified.
        source: Holds the eager model.
        data: Windows that calibrate and judge; None for the stress set alone.
        options: What was asked.
        recipe: How int8 is made.
        progress: Told of every stage.

    Raises:
        ExportError: What its subclasses say.
    """
    target, precision = load_target(options.target), options.precision
    assert precision != "auto", "made of candidates that each have one"
    # What TensorRT gets is judged on the CPU first: the same file means the same everywhere.
    cpu = load_target("onnx") if options.target == "trt" else target
    plain = equalized(graph) if recipe.equalize else graph
    forms = stream_forms(plain, options) if options.mode == "stream" else None
    floats = forms.graphs if forms is not None else layouts(plain, options)
    converted, how = floats, None
    rounded: dict[str, Graph] = {}
    if options.precision == "float16":
        converted, rounded = halve_graphs(floats, source, data, options, progress)
    elif options.precision == "int8":
        assert data is not None
        if forms is None:
            converted, how = quantize_graphs(floats, data, options, recipe, progress)
        else:
            assert data.calibration is not None
            signals = data.calibration.spread(options.calibration_windows).x
            longer = longer_hop(plain, options, signals.shape[2])
            converted, how = quantize_stream(
                floats, signals, options, recipe, progress, data.name, longer
            )
    artifact, artifacts = None, {}
    if options.target == "trt":
        choice = Choice(next(iter(converted)))
    else:
        settings = {"cuda_graph": True} if options.cuda_graph else {}
        artifacts = {
            name: target.build(each, precision, settings, options.mode)
            for name, each in converted.items()
        }
        signature = next(iter(artifacts.values())).signature
        race = choose if forms is None else choose_form
        choice = race(artifacts, one_window(source, signature, options.seed), progress)
        artifact = artifacts[choice.name]
    final = converted[choice.name]
    stages = Stages()
    if options.precision != "float32":
        before = cpu.build(floats[choice.name], "float32", mode=options.mode)
        stages = Stages(before=before)
    if options.precision == "float16" and options.target != "cuda":  # which rounds by itself
        rounding = cpu.build(rounded[choice.name], "float16", mode=options.mode)
        stages = replace(stages, rounded=rounding)
    if artifact is None:
        stages = replace(stages, on_the_cpu=cpu.build(final, precision, mode=options.mode))
        built = _deploy(final, choice, stages, how, source, data, options, progress)
        return replace(built, stream=_stream(built.artifact, choice, forms, options))
    if how is not None:
        on_arm = how["isa"] == "arm64"
        coverage = {n: _coverage(floats[n], a, on_arm) for n, a in artifacts.items()}
        choice = replace(choice, coverage=coverage)
        how["coverage"] = coverage[choice.name]
    stream = _stream(artifact, choice, forms, options)
    return Built(artifact, final, choice, stages, how, stream=stream)


def _stream(
    artifact: Artifact, choice: Choice, forms: StreamForms | None, options: ExportOptions
) -> dict[str, Any] | None:
    if forms is None:
        return None
    return describe_stream(artifact, choice, forms, options.mean)


def _coverage(graph: Graph, artifact: Artifact, on_arm: bool) -> dict[str, Any]:
    from tcn_export.quantize.coverage import measure_coverage
    from tcn_export.targets.onnxruntime import optimized_model

    return measure_coverage(graph, optimized_model(artifact, on_arm)).to_json()


def _deploy(
    graph: Graph,
    choice: Choice,
    stages: Stages,
    how: dict[str, Any] | None,
    source: Source,
    data: ExportData | None,
    options: ExportOptions,
    progress: Progress,
) -> Built:
    """Bring a graph as far towards an engine as this machine can."""
    from tcn_export.targets.tensorrt.deployment import deploy

    settings = engine_settings(source, graph, data, options)
    assert stages.on_the_cpu is not None
    artifact = load_target("trt").build(
        graph, stages.on_the_cpu.precision, settings, options.mode
    )
    deployment = deploy(artifact, graph.model, progress, not options.bundle_only)
    if how is not None:
        how["coverage"] = integer_coverage(graph, deployment)
    return Built(
        deployment.artifact,
        graph,
        choice,
        replace(stages, missing=deployment.missing and deployment.engine),
        how,
        deployment.engine,
        deployment.builder,
    )
