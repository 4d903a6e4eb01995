"""The verdict on an artifact while it is exported, with the eager model at hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tcn_export.export_data import ExportData, golden_feeds
from tcn_export.options import ExportOptions
from tcn_export.parity import windows as parity_windows
from tcn_export.parity.gate import Gate, ParityReport, Row, waive
from tcn_export.parity.golden import Golden, WindowAnswers
from tcn_export.progress import Progress
from tcn_export.targets import load_target
from tcn_export.targets.base import Artifact, Runner

if TYPE_CHECKING:
    from tcn_export.parity.oracle import Oracle
    from tcn_export.source.base import Source


def judge(
    source: Source,
    artifact: Artifact,
    before_int8: Artifact | None,
    data: ExportData | None,
    options: ExportOptions,
    progress: Progress,
) -> tuple[Golden, ParityReport]:
    """Run an artifact beside the eager model.

    Args:
        source: Holds the eager model.
        artifact: What is judged.
        before_int8: The float32 artifact that was quantised. It is held to the float32 limits:
            rounding to 8 bits would hide a fault of the rewrites that costs no answer here.
        data: Windows to judge on; None for the stress set alone.
        options: Limits and seed.
        progress: Told of every stage.

    Returns:
        The golden data for the bundle, and the report.
    """
    from tcn_export.parity.oracle import Oracle

    oracle = Oracle(source.module, source.signature)
    gate = Gate(artifact.precision, artifact.signature, source.task == "classification")
    feeds = golden_feeds(source, artifact.signature, data, options.seed)
    runner = _runner(artifact)
    with progress.stage("Comparing with the eager model", len(feeds)) as advance:
        references = {}
        for feed in feeds:
            references[feed.name] = oracle.run(feed.inputs)
            advance()
        golden = Golden(feeds, references, source.classes)
        rows = [] if before_int8 is None else _judge_float(gate, golden, before_int8)
        rows += gate.judge_golden(golden, runner)
    if data is None:
        return golden, ParityReport(tuple(rows))
    more, answers = _judge_windows(gate, oracle, runner, data, options, progress)
    golden = replace(golden, windows=answers)
    if data.kind == "noise":
        return golden, ParityReport((*rows, *waive(more, "seeded noise")), ("real data",))
    return golden, ParityReport((*rows, *more))


def _judge_float(gate: Gate, golden: Golden, artifact: Artifact) -> list[Row]:
    rows = replace(gate, precision="float32").judge_golden(golden, _runner(artifact))
    return [replace(row, stage="before int8") for row in rows]


def _judge_windows(
    gate: Gate,
    oracle: Oracle,
    runner: Runner,
    data: ExportData,
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


def _runner(artifact: Artifact) -> Runner:
    return load_target(artifact.target).runner(artifact)
