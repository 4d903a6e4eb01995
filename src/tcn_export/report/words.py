"""The words and figures that every report shares: what a row's status means, and its text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from tcn_export.errors import ExportError
from tcn_export.manifest import Manifest
from tcn_export.parity.rows import BUNDLE, ParityReport, Row

Level = Literal["passed", "failed", "undecided", "skipped"]
Tone = Literal["good", "bad", "unclear"]

_LEVELS: dict[str, Level] = {
    "pass": "passed",
    "fail": "failed",
    "undecided": "undecided",
    "waived": "skipped",
    "recorded": "skipped",
}
_METRICS = {
    "form": "form",
    "max_abs_error": "largest error",
    "sqnr_db": "signal to noise",
    "agreement": "equal answers",
    "accuracy": "accuracy",
    "accuracy_lost_upper95_points": "accuracy lost, upper 95 % bound",
    "relative_rms_gained_upper95_points": "error gained, upper 95 % bound",
    "mean_squared_error": "mean squared error",
    "rms_noise": "noise",
    "rms_error_moved": "error moved",
    "sqnr_db_worst_tenth": "signal to noise, worst tenth",
    "sqnr_db_last_tenth": "signal to noise, last tenth",
    "interrupted": "values changed by an interruption",
    "reset": "values changed by a reset",
}
_UNITS = {"_db": "dB", "_points": "points"}
_SHARES = ("agreement", "accuracy")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command that judges came to: a report, or the error that kept it from one.

    Attributes:
        command: Name of the command.
        subject: What was judged, as the user named it.
        seconds: How long that took.
        report: The rows and the verdict; None where an error came first.
        manifest: What the bundle says about itself; None where there is none.
        error: Why there is no report.
    """

    command: str
    subject: str
    seconds: float
    report: ParityReport | None = None
    manifest: Manifest | None = None
    error: ExportError | None = None

    @property
    def name(self) -> str:
        """The last part of the subject's path: what reports are titled with."""
        return self.subject.replace("\\", "/").rstrip("/").rpartition("/")[2] or self.command


def level(row: Row) -> Level:
    """What a row's status means for CI; one that is not known here counts as failed."""
    return _LEVELS.get(row.status, "failed")


def at_level(report: ParityReport, *levels: Level) -> list[Row]:
    """The rows of a report that are at one of these levels."""
    return [row for row in report.rows if level(row) in levels]


def tone(report: ParityReport) -> Tone:
    """How a verdict is told: only ``verified`` is good; what was left out is unclear."""
    if report.verdict == "fail":
        return "bad"
    return "good" if report.verified else "unclear"


def verdict(report: ParityReport) -> str:
    """The verdict in one sentence that needs no knowledge of the gate."""
    judged = at_level(report, "passed", "failed", "undecided")
    failed, undecided = at_level(report, "failed"), at_level(report, "undecided")
    checks = f"{len(judged)} check{'' if len(judged) == 1 else 's'}"
    if report.verdict == "fail":
        if not any(row.feed != BUNDLE for row in judged):
            return "Parity is not shown: nothing was judged."
        return f"Parity is lost: {len(failed)} of {checks} failed."
    if report.verdict != "pass":
        return f"Not decided: {len(undecided)} of {checks} cannot be decided with these data."
    if report.missing:
        return f"Not verified: the engine is {report.missing}."
    if report.waived:
        return f"Not verified: {', '.join(report.waived)} waived; {checks} passed."
    return f"Verified: {checks} passed, none failed."


def place(row: Row) -> str:
    """Where a row's value comes from."""
    if row.feed == BUNDLE:
        return "the bundle"
    return row.feed if row.output == "*" else f"{row.feed}/{row.output}"


def metric(row: Row) -> str:
    """The name of a metric in words."""
    return _METRICS.get(row.metric, row.metric.replace("_", " "))


def unit(row: Row) -> str:
    """The unit of a row's value; "" where it has that of the output, or none."""
    return next((told for end, told in _UNITS.items() if row.metric.endswith(end)), "")


def figure(value: float | str | None) -> str:
    """A number with four digits, or the words that stand in its place."""
    return f"{value:.4g}" if isinstance(value, float | int) else str(value)


def limit(row: Row) -> str:
    """The relation and the limit; "" where there is none."""
    return "" if row.limit is None else f"{row.relation} {figure(row.limit)}"


def with_unit(row: Row, value: float | str | None) -> str:
    """A value of a row, with its unit."""
    if row.metric in _SHARES and isinstance(value, float | int):
        return percent(value)
    told, number = unit(row), figure(value)
    if number == "1":
        told = told.rstrip("s")
    return f"{number} {told}" if told else number


def told_limit(row: Row) -> str:
    """The relation and the limit, with its unit."""
    return "" if row.limit is None else f"{row.relation} {with_unit(row, row.limit)}"


def sentence(row: Row) -> str:
    """What a row says: value, relation, limit and note."""
    told = f"{metric(row)} {with_unit(row, row.value)}"
    if row.limit is not None:
        told += f", expected {told_limit(row)}"
    return f"{told} ({row.note})" if row.note else told


def percent(share: float) -> str:
    """A share as percentage; one that is not 1 never reads 100 %."""
    told = f"{100 * share:.2f}"
    return f"{'> 99.99' if told == '100.00' and share < 1 else told} %"


def number(value: Any) -> float:
    """A number of a manifest, where those that JSON lacks are text; nan where it is none."""
    try:
        return float(value)
    except ValueError:
        return math.nan


def decibel(value: Any) -> str:
    """A ratio in dB; the infinite one is an exact answer's."""
    found = number(value)
    return "exact" if found == math.inf else f"{found:.1f} dB"
