"""The result as tables on a terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tcn_export.bundle import Bundle
from tcn_export.manifest import Manifest
from tcn_export.parity.rows import BUNDLE, ORACLE, ParityReport, Row
from tcn_export.report.dependence import TOLD_TOGETHER, dependence_lines
from tcn_export.report.quantization import candidate_lines, quantization_lines
from tcn_export.report.stream import call_words, stream_lines
from tcn_export.report.words import figure, limit
from tcn_export.scores import ClassificationScores
from tcn_export.targets.tensorrt.sidecar import SIDECAR_FILE, read_sidecar

_STYLES = {
    "pass": "green", "fail": "bold red", "undecided": "bold yellow", "waived": "yellow",
    "recorded": "dim",
}  # fmt: skip


_SUMMED_UP = ("max_abs_error", "sqnr_db")


def parity_table(report: ParityReport, everything: bool = False) -> RenderableType:
    """One line per comparison; without ``everything`` those that passed are summed up.

    Of several feeds that were held to the same kind of limit the one that came nearest to it
    stands for all; forms that passed are only counted.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("feed", "output", "metric"):
        table.add_column(column, overflow="fold")  # a narrow terminal must not cut names off
    for column in ("value", "limit"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    table.add_column("note", style="dim", overflow="fold")
    rows = report.rows if everything else _summed_up(report.rows)
    for row in rows:
        table.add_row(
            row.feed if row.stage == "artifact" else f"{row.feed} ({row.stage})",
            row.output,
            row.metric,
            figure(row.value),
            limit(row),
            Text(row.status, style=_STYLES[row.status]),
            row.note,
        )
    hidden = sum(row.metric == "form" for row in report.rows) - sum(
        row.metric == "form" for row in rows
    )
    if hidden:
        return Group(table, Text(f"and {hidden} outputs of the right form", style="dim"))
    return table


def _summed_up(rows: Iterable[Row]) -> list[Row]:
    summed: list[Row] = []
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.status != "pass" or row.metric not in ("form", *_SUMMED_UP):
            summed.append(row)
        elif row.metric in _SUMMED_UP:
            kind = row.limit if row.metric == "sqnr_db" else None
            group = groups.setdefault((row.stage, row.output, row.metric, kind), [])
            if not group:
                summed.append(row)
            group.append(row)
    for group in groups.values():
        nearest = max(group, key=_share_of_limit)
        if len(group) > 1:
            own = f"{nearest.note}; " if nearest.note else ""
            note = f"{own}nearest to its limit of {len(group)} feeds"
            nearest = replace(nearest, note=note)
        summed[summed.index(group[0])] = nearest
    return summed


def _share_of_limit(row: Row) -> float:
    """How near a row came to its limit; 1 lies on it."""
    value, held = row.value, row.limit
    assert isinstance(value, float)
    assert isinstance(held, float)
    if row.relation == ">=":
        return held / value if value else 0.0
    return value / held if held else 0.0


def verdict_line(report: ParityReport, path: str) -> Text:
    """The verdict in one line."""
    if report.verdict == "fail":
        judged = sum(row.status in ("pass", "fail") for row in report.rows)
        return Text(
            f"PARITY LOST: {len(report.failures)} of {judged} checks failed: {path}",
            "bold red",
        )
    if report.verdict == "undecided":
        return Text(f"NOT DECIDABLE: {_undecided(report)}: {path}", "bold yellow")
    if report.missing:
        waived = f"; {', '.join(report.waived)} waived" if report.waived else ""
        return Text(f"not verified (the engine is {report.missing}{waived}): {path}", "yellow")
    if report.waived:
        return Text(f"not verified ({', '.join(report.waived)} waived): {path}", "yellow")
    return Text(f"verified: {path}", "bold green")


def _undecided(report: ParityReport) -> str:
    """Why nothing is decided, and what to do."""
    first = report.undecided[0]
    give = "Export it again with" if first.feed == BUNDLE else "Give"
    return f"{first.note}. {give} more windows, a larger --max-drop, or --allow-undecided"


def bundle_table(bundle: Bundle) -> RenderableType:
    """What a bundle is, one property per line."""
    manifest = bundle.manifest
    table = _properties()
    size = len(bundle.files[manifest.model]) / 1024
    table.add_row(
        "model", f"{manifest.model}, {size:.1f} KB, {manifest.target} {manifest.precision}"
    )
    _add_signature(table, manifest)
    _add_dependence(table, manifest.to_json())
    for name, value in (
        *stream_lines(manifest.to_json()),
        *candidate_lines(manifest.candidates or ()),
        *(quantization_lines(manifest.quantization) if manifest.quantization else ()),
    ):
        table.add_row(name, value)
    if manifest.latency:
        latency = manifest.latency
        host = manifest.host if manifest.layout is None else manifest.layout["measured_on"]
        table.add_row(
            "latency",
            f"{latency['median_us']:.0f} us median, {latency['p99_us']:.0f} us p99 "
            f"({latency['threads']} thread, {call_words(manifest.to_json())}, {host['cpu']})",
        )
    if manifest.target == "trt":
        _add_engine(table, bundle)
    changes = [f"{s['name']} x{s['modified']}" for s in manifest.rewrites if s["modified"]]
    table.add_row("rewrites", ", ".join(changes) or "none")
    refused = [r for step in manifest.rewrites for r in step["refusals"]]
    for refusal in refused:
        table.add_row("", Text(f"left alone: {refusal['node']}: {refusal['reason']}", "dim"))
    table.add_row("source", f"{manifest.source['file']} ({manifest.source['kind']})")
    for note in manifest.source["notes"]:
        table.add_row("", Text(note, "dim"))
    if manifest.parity["oracle"] != ORACLE:
        table.add_row("compared with", manifest.parity["oracle"])
    table.add_row("verified", why_not_verified(manifest))
    return table


def property_table(properties: dict[str, Any]) -> RenderableType:
    """Names and values, one per line; what is not known is left out."""
    table = _properties()
    for name, value in properties.items():
        if name == "dependence":
            _add_dependence(table, properties)
        elif name not in TOLD_TOGETHER and value is not None:
            table.add_row(name, str(value))
    return table


def score_table(score: ClassificationScores | float, title: str) -> RenderableType:
    """Accuracy, macro-F1 and the scores of every class; or the error of a regression."""
    if isinstance(score, float):
        return f"{title}: mean squared error {score:.6g}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("class")
    for column in ("precision", "sensitivity", "F1", "windows"):
        table.add_column(column, justify="right")
    for row in score.classes:
        table.add_row(
            row.name,
            *(
                "-" if math.isnan(value) else f"{value:.3f}"
                for value in (row.precision, row.sensitivity, row.f1)
            ),
            str(row.support),
        )
    summary = f"accuracy {100 * score.accuracy:.2f} %, macro-F1 {score.macro_f1:.3f}"
    return Group(table, Text(summary, "bold"))


def why_not_verified(manifest: Manifest) -> str:
    """Whether a bundle is verified; where it is not, why."""
    if manifest.verified:
        return "yes"
    if manifest.parity["verdict"] == "fail":
        return "no: parity lost"
    if manifest.parity["verdict"] == "undecided":
        return "no: not decidable with the windows of the export"
    if manifest.latency is None and manifest.engine is not None:
        waived = "".join(f"; waived {check}" for check in manifest.waived)
        return f"no: the engine is {manifest.engine}{waived}"
    return f"no: waived {', '.join(manifest.waived)}"


def _properties() -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table


def _add_signature(table: Table, manifest: Manifest) -> None:
    for title, specs in (
        ("input", manifest.signature.inputs),
        ("output", manifest.signature.outputs),
    ):
        for spec in specs:
            shape = " x ".join(map(str, spec.shape))
            table.add_row(title, f"{spec.name}: {spec.dtype} {shape}")
    if manifest.classes:
        table.add_row("classes", ", ".join(manifest.classes))
    if manifest.sample_rate_hz:
        table.add_row("sample rate", f"{manifest.sample_rate_hz:g} Hz")


def _add_dependence(table: Table, entries: Mapping[str, Any]) -> None:
    for name, value in dependence_lines(entries):
        table.add_row(name, value)


def _add_engine(table: Table, bundle: Bundle) -> None:
    manifest, builder = bundle.manifest, bundle.manifest.builder or {}
    table.add_row("engine", manifest.engine or "")
    table.add_row("", Text(str(builder.get("parser", "")), "dim"))
    if SIDECAR_FILE in bundle.files:
        built = read_sidecar(bundle.files[SIDECAR_FILE])
        device = f"{built['device']['name']} (SM {built['device']['compute_capability']})"
        verdict = built.get("verdict", manifest.parity["verdict"])
        table.add_row("", f"beside it: built with {built['runtime']} {built['version']} for "
                      f"{device}, parity: {verdict}")  # fmt: skip
    for name, (smallest, _, largest) in manifest.settings.get("profiles", {}).items():
        sizes = (" x ".join(map(str, shape)) for shape in (smallest, largest))
        table.add_row("", f"{name}: from {' to '.join(sizes)}")
    arithmetic = Counter(builder.get("convolutions", {}).values())
    if arithmetic:
        told = ", ".join(f"{count} in {kind}" for kind, count in sorted(arithmetic.items()))
        table.add_row("convolutions", told)
    for finding in builder.get("gpu_fallback", ()):
        table.add_row("", Text(f"on the GPU: {finding}", "dim"))
