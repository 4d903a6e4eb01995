"""The result as annotations of GitHub Actions: lines that its runner takes from the output.

Source: GitHub's page "Workflow commands for GitHub Actions". A step shows ten annotations of
each kind and drops the rest, so the last of many says how many are left out.
"""

from __future__ import annotations

from tcn_export.report.words import Outcome, at_level, place, sentence, tone, verdict

MOST_ANNOTATIONS = 10


def annotation_lines(outcome: Outcome) -> list[str]:
    """The lines to print, at most `MOST_ANNOTATIONS` of each kind."""
    title = f"{outcome.command} {outcome.name}"
    errors: list[tuple[str, str]] = []
    warnings: list[tuple[str, str]] = []
    if outcome.error is not None:
        errors.append((title, f"{type(outcome.error).__name__}: {outcome.error}"))
    if outcome.report is not None:
        failed = at_level(outcome.report, "failed")
        undecided = at_level(outcome.report, "undecided")
        for row in failed:
            stage = "" if row.stage == "artifact" else f" ({row.stage})"
            errors.append((f"{title}: {place(row)}{stage}", sentence(row)))
        warnings += [
            (f"{title}: {place(row)} is not decided", sentence(row)) for row in undecided
        ]
        told = verdict(outcome.report)
        if tone(outcome.report) == "bad" and not failed:
            errors.append((title, told))
        elif tone(outcome.report) == "unclear" and not undecided:
            warnings.append((title, told))
    return [*_lines("error", title, errors), *_lines("warning", title, warnings)]


def _lines(kind: str, title: str, found: list[tuple[str, str]]) -> list[str]:
    if len(found) > MOST_ANNOTATIONS:
        left = len(found) - (MOST_ANNOTATIONS - 1)
        more = (title, f"... and {left} more: see the summary of this job")
        found = [*found[: MOST_ANNOTATIONS - 1], more]
    return [f"::{kind} title={_property(head)}::{_data(text)}" for head, text in found]


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
