"""The verdict on an artifact while it is exported, beside the eager model's answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tcn_export.data import BATCH_WINDOWS, Windows
from tcn_export.export_data import ExportData
from tcn_export.options import ExportOptions
from tcn_export.parity import windows as parity_windows
from tcn_export.parity.bounds import ALPHA
from tcn_export.parity.drift import begin_anew_at, judge_drift, measure_drift
from tcn_export.parity.gate import Gate
from tcn_export.parity.golden import Golden
from tcn_export.parity.rows import ParityReport, Row, Stage, baseline, waive
from tcn_export.parity.scoring import allow_undecided, tell
from tcn_export.parity.streaming import judge_interrupted
from tcn_export.parity.tally import Comparison
from tcn_export.parity.tolerance import (
    FLOAT16_SQNR_DB,
    INT8_LABELLED_SQNR_DB,
    INT8_SQNR_DB,
)
from tcn_export.progress import Progress
from tcn_export.referring import References
from tcn_export.targets import load_target, open_runner
from tcn_export.targets.base import Artifact, Runner
from tcn_export.targets.streamed import StreamedRunner


@dataclass(frozen=True, slots=True)
class Stages:
    """What else is judged beside an artifact.

    Attributes:
        before: The float32 artifact that was converted to a lower precision. It is held to the
            float32 limits: rounding would hide a fault of the rewrites that costs little here.
        on_the_cpu: The graph of an artifact for another device, for ONNX Runtime on the CPU.
        rounded: The artifact as float32 arithmetic with every rounding to float16 written out;
            None where nothing is float16, or the device itself rounds. It is held to the
            artifact's limits, and stands for the CPU's on the windows.
        missing: Why the artifact itself cannot run here; "" where it can.
    """

    before: Artifact | None = None
    on_the_cpu: Artifact | None = None
    rounded: Artifact | None = None
    missing: str = ""


def judge(
    references: References,
    artifact: Artifact,
    stages: Stages,
    data: ExportData | None,
    options: ExportOptions,
    progress: Progress,
    looks: int = 1,
) -> tuple[Golden, ParityReport]:
    """Run an artifact, and compare its answers with the eager model's.

    Args:
        references: The eager model's answers.
        artifact: What is judged.
        stages: What is judged beside it.
        data: Windows to judge on; None for the stress set alone.
        options: Limits.
        progress: Told of every stage.
        looks: How many artifacts are judged on these windows, of which one is taken. Each is
            held to a bound that is so many times less often wrong (Bonferroni).

    Returns:
        The golden data for the bundle, and the report.
    """
    golden, told = references.golden, references.told
    gate = Gate(artifact.precision, artifact.signature, references.is_classification)
    with progress.stage("Comparing with the eager model"):
        rows = _judge_feeds(gate, golden, artifact, stages)
    if data is None:
        return golden, ParityReport(tuple(rows), missing=stages.missing, oracle=told)
    runner = _runner(_for_windows(artifact, stages))
    limits = parity_windows.Limits(options.max_drop, ALPHA / looks)
    more, answer = _judge_windows(gate, references, runner, data, limits, progress)
    scored = tell(data.parity, answer.oracle, answer.actual, golden.classes, limits)
    if stages.rounded is not None and _for_windows(artifact, stages) is stages.rounded:
        more = _at("rounded to float16", more)
    elif stages.missing:
        more = _at("on the CPU", more)
    golden = replace(golden, windows=answer.oracle)
    waived: tuple[str, ...] = ()
    if data.kind == "noise":
        more, waived = waive(more, "seeded noise"), ("real data",)
    elif options.allow_undecided:
        more, waived = allow_undecided(more, scored)
    report = ParityReport(
        (*rows, *more), waived, stages.missing, told, scored.scores, scored.loss
    )
    return golden, report


def _judge_feeds(gate: Gate, golden: Golden, artifact: Artifact, stages: Stages) -> list[Row]:
    """The rows of the golden feeds, of the artifact and of what is judged beside it."""
    rows = _judge_before(gate, golden, stages.before)
    on_the_cpu: list[Row] = []
    if stages.on_the_cpu is not None:
        cpu = _runner(stages.on_the_cpu)
        on_the_cpu = _at("on the CPU", gate.judge_golden(golden, cpu))
        rows += on_the_cpu
    if stages.rounded is not None:
        rows += _at("rounded to float16", gate.judge_golden(golden, _runner(stages.rounded)))
    if not stages.missing:
        # One file means one thing: the device is held to what the CPU made of it.
        same = baseline(row.to_json() for row in on_the_cpu) if on_the_cpu else None
        rows += replace(gate, baseline=same).judge_golden(golden, _runner(artifact))
    if artifact.mode == "stream" and not stages.missing:
        one, other = (load_target(artifact.target).runner(artifact) for _ in range(2))
        rows += judge_interrupted(golden, artifact.signature, one, other)
    return rows


def _for_windows(artifact: Artifact, stages: Stages) -> Artifact:
    """What is asked about real windows: the artifact, unless it cannot run or round here."""
    if stages.missing or artifact.target == "onnx":
        return stages.rounded or stages.on_the_cpu or artifact
    return artifact


def _judge_before(gate: Gate, golden: Golden, before: Artifact | None) -> list[Row]:
    if before is None:
        return []
    rows = replace(gate, precision="float32").judge_golden(golden, _runner(before))
    return _at("before int8" if gate.precision == "int8" else "before float16", rows)


def _at(stage: Stage, rows: list[Row]) -> list[Row]:
    return [replace(row, stage=stage) for row in rows]


def _judge_windows(
    gate: Gate,
    references: References,
    runner: Runner,
    data: ExportData,
    limits: parity_windows.Limits,
    progress: Progress,
) -> tuple[list[Row], Comparison]:
    name = gate.signature.inputs[0].name
    outputs = tuple(spec.name for spec in gate.signature.outputs)
    windows = data.parity
    with progress.stage(f"Comparing on {data.name}", _work(runner, windows)) as advance:
        if isinstance(runner, StreamedRunner):
            runner.advance = advance
        comparisons = parity_windows.compare(
            windows,
            outputs,
            parity_windows.run_batches(runner, name, windows.x, advance),
            references.windows,
            gate.is_classification,
        )
        if isinstance(runner, StreamedRunner):
            runner.advance = int
    rows: list[Row] = []
    for output, comparison in comparisons.items():
        held, judged = gate, windows
        if output != outputs[0]:  # the labels are about the answer
            held, judged = replace(gate, is_classification=False), replace(windows, y=None)
        rows += parity_windows.judge_comparison(held, output, judged, comparison, limits)
    rows += _judge_drift(gate, references, runner, data)
    return rows, comparisons[outputs[0]]


def _work(runner: Runner, windows: Windows) -> int:
    """What is told of while windows run: each of them, and of a stream every hop too."""
    if not isinstance(runner, StreamedRunner):
        return len(windows)
    batches = -(-len(windows) // BATCH_WINDOWS)
    steps: int = windows.x.shape[2]
    return len(windows) + batches * (steps // runner.signature.hop)


def _judge_drift(
    gate: Gate, references: References, runner: Runner, data: ExportData
) -> list[Row]:
    """Whether the noise of a stream grows with time, on the first of the user's signals."""
    field, signature = references.receptive_field, gate.signature
    if not isinstance(runner, StreamedRunner) or field is None or gate.precision == "float32":
        return []
    name, x = signature.inputs[0].name, data.parity.x[:1]
    start = begin_anew_at(x.shape[2], field, signature.hop)
    outputs = [spec for spec in signature.outputs if spec.time_axis is not None]
    if not start or not outputs:  # too short a signal to say anything about time
        return []
    whole, anew = runner.run({name: x}), runner.run({name: x[:, :, start:]})
    truth = next(iter(references.windows)).float64
    rows: list[Row] = []
    for spec in outputs:
        assert spec.time_axis is not None
        own = truth[spec.name][:1]
        drift = measure_drift(whole[spec.name], own, anew[spec.name], spec.time_axis)
        is_scored = data.parity.y is not None and spec is signature.outputs[0]
        least = INT8_LABELLED_SQNR_DB if is_scored else INT8_SQNR_DB
        if gate.precision == "float16":
            least = FLOAT16_SQNR_DB
        rows += judge_drift(parity_windows.FEED, spec.name, drift, least)
    return rows


def _runner(artifact: Artifact) -> Runner:
    return open_runner(artifact)
