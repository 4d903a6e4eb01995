"""The result as Markdown, fit for a comment on a pull request or the summary of a job.

The verdict comes first, then what failed, then the figures; all rows are folded away. Names
come from files that anyone may have written, so nothing in them may become markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tcn_export.parity.rows import Row
from tcn_export.report.facts import facts
from tcn_export.report.words import (
    Level,
    Outcome,
    at_level,
    level,
    metric,
    place,
    told_limit,
    tone,
    verdict,
    with_unit,
)

MOST_CHARACTERS = 60_000
"""GitHub takes 65,536 characters in a comment."""
_MARKS = {"good": "✅", "bad": "❌", "unclear": "⚠️"}
_ROW_MARKS: dict[Level, str] = {
    "passed": "✅", "failed": "❌", "undecided": "⚠️", "skipped": "⚪",
}  # fmt: skip
_MARKUP = re.compile(r"[\\`*_{}\[\]()~$^]|[&<>|@#]|:(?=//)|(?<=www)\.", re.IGNORECASE)
# Entities are decoded before GitHub looks for names and numbers; a comment keeps them apart.
_SAFE = {
    "&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", ":": "&#58;", ".": "&#46;",
    "@": "@<!-- -->", "#": "#<!-- -->",
}  # fmt: skip
_COLUMNS = ("", "stage", "feed/output", "metric", "value", "limit", "note")


def markdown(outcome: Outcome) -> str:
    """The page, at most `MOST_CHARACTERS` long; rows that have no room are counted."""
    if outcome.error is not None:
        kind, text = type(outcome.error).__name__, str(outcome.error)
        head = f"### ❌ {_plain(outcome.name)}: {_plain(outcome.command)} found no verdict"
        return f"{head}\n\n**{kind}**: {_plain(text[: MOST_CHARACTERS // 10])}\n"
    report = outcome.report
    assert report is not None
    mark = _MARKS[tone(report)]
    parts = [f"### {mark} {_plain(outcome.name)}: {_plain(verdict(report))}"]
    bad = at_level(report, "failed", "undecided")
    room = MOST_CHARACTERS // 3
    if bad:
        parts.append(_rows(bad, room))
    if outcome.manifest is not None:
        parts.append(_facts(facts(outcome.manifest.to_json())))
    taken = sum(len(part) + 2 for part in parts)
    listed = _rows(report.rows, MOST_CHARACTERS - taken - 200)
    summary = f"<summary>All {len(report.rows)} rows</summary>"
    parts.append(f"<details>{summary}\n\n{listed}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def _facts(entries: Mapping[str, str]) -> str:
    return _table(("", ""), [(f"**{name}**", _plain(text)) for name, text in entries.items()])


def _rows(rows: Sequence[Row], room: int) -> str:
    lines: list[tuple[str, ...]] = []
    taken = 0
    for row in rows:
        line = (_ROW_MARKS[level(row)], *map(_plain, _cells(row)))
        taken += sum(len(cell) + 3 for cell in line) + 3
        if taken > room:
            break
        lines.append(line)
    left = len(rows) - len(lines)
    more = f"\n\nand {left} more rows: see report.json or `--json`" if left else ""
    return _table(_COLUMNS, lines) + more


def _cells(row: Row) -> tuple[str, ...]:
    stage = "" if row.stage == "artifact" else row.stage
    note = row.note if row.status in ("pass", "fail") else f"{row.status}. {row.note}"
    value = with_unit(row, row.value)
    return (stage, place(row), metric(row), value, told_limit(row), note.strip())


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    head = ("| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns))
    return "\n".join([*head, *("| " + " | ".join(line) + " |" for line in lines)])


def _plain(text: Any) -> str:
    """Text that Markdown and HTML leave as it is, on one line; nobody is mentioned."""
    told = " ".join(str(text).split())
    return _MARKUP.sub(lambda found: _SAFE.get(found[0], f"\\{found[0]}"), told)
