"""The result as JUnit XML, which GitLab, Jenkins and the viewers for GitHub read.

One suite per bundle and stage, one case per row. The name of a case holds no figure, so that
viewers recognise it from run to run; GitLab shows the text of a failure and Jenkins its
attribute, so both hold what was found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from tcn_export.manifest import Manifest
from tcn_export.parity.rows import ON_THE_DEVICE, ParityReport, Row
from tcn_export.report.words import Level, Outcome, at_level, level, place, sentence, verdict

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAGS: dict[Level, str] = {"failed": "failure", "undecided": "failure", "skipped": "skipped"}


@dataclass(frozen=True, slots=True)
class _Case:
    suite: str
    name: str
    tag: str = ""  # failure, error or skipped; "" where it passed
    kind: str = ""
    message: str = ""


def junit_bytes(outcome: Outcome) -> bytes:
    """The content of a JUnit file."""
    cases = list(_cases(outcome))
    root = ET.Element("testsuites", {"name": _legal(outcome.command), **_counts(cases, True)})
    root.set("time", _seconds(outcome))
    for name in dict.fromkeys(case.suite for case in cases):
        mine = [case for case in cases if case.suite == name]
        suite = ET.SubElement(root, "testsuite", {"name": _legal(name), **_counts(mine)})
        # The time is that of the command; one suite has it, so that sums stay right.
        suite.set("time", _seconds(outcome) if name == cases[0].suite else "0.000")
        _add_properties(suite, outcome.manifest)
        _add_cases(suite, mine)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _cases(outcome: Outcome) -> Iterable[_Case]:
    if outcome.report is not None:
        for row in outcome.report.rows:
            yield _of_row(outcome.name, row)
        yield from _of_report(outcome.name, outcome.report)
    if outcome.error is not None:
        kind, message = type(outcome.error).__name__, str(outcome.error)
        yield _Case(outcome.name, outcome.command, "error", kind, message)


def _of_row(name: str, row: Row) -> _Case:
    found = level(row)
    suite = name if row.stage == "artifact" else f"{name} {row.stage}"
    tag = _TAGS.get(found, "")
    kind = row.status if tag else ""
    return _Case(suite, f"{row.metric} on {place(row)}", tag, kind, sentence(row))


def _of_report(name: str, report: ParityReport) -> Iterable[_Case]:
    """What the rows alone do not show: why a verdict without a failed row is none."""
    for check in report.waived:
        yield _Case(name, f"waived: {check}", "skipped", "waived", f"{check} was waived")
    if report.missing and ON_THE_DEVICE not in report.waived:
        message = f"nothing ran on the target: the engine is {report.missing}"
        yield _Case(name, ON_THE_DEVICE, "error", "missing", message)
    if report.verdict != "pass" and not at_level(report, "failed", "undecided"):
        yield _Case(name, "verdict", "failure", report.verdict, verdict(report))


def _counts(cases: list[_Case], is_root: bool = False) -> dict[str, str]:
    tags = Counter(case.tag for case in cases)
    counts = {"tests": len(cases), "failures": tags["failure"], "errors": tags["error"]}
    if not is_root:  # the schema knows no skipped tests of all suites
        counts["skipped"] = tags["skipped"]
    return {name: str(count) for name, count in counts.items()}


def _add_properties(suite: ET.Element, manifest: Manifest | None) -> None:
    if manifest is None:
        return
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("target", manifest.target),
        ("precision", manifest.precision),
        ("source.sha256", str(manifest.source["sha256"])),
        *((f"tool.{name}", version) for name, version in manifest.tools.items()),
    ):
        ET.SubElement(properties, "property", name=_legal(name), value=_legal(value))


def _add_cases(suite: ET.Element, cases: list[_Case]) -> None:
    seen: Counter[str] = Counter()
    for case in cases:
        seen[case.name] += 1
        again = f" #{seen[case.name]}" if seen[case.name] > 1 else ""
        # Jenkins takes what stands before the last dot of a class for its package.
        attributes = {
            "name": _legal(case.name + again),
            "classname": _legal(case.suite.replace(".", "_")),
            "time": "0.000",
        }
        element = ET.SubElement(suite, "testcase", attributes)
        if case.tag:
            details = {"type": _legal(case.kind), "message": _legal(case.message)}
            ET.SubElement(element, case.tag, details).text = _legal(case.message)


def _seconds(outcome: Outcome) -> str:
    return f"{outcome.seconds:.3f}"


def _legal(text: str) -> str:
    """Text without the characters that XML 1.0 cannot hold, not even escaped."""
    return _ILLEGAL.sub("\ufffd", text)
