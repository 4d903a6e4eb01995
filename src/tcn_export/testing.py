"""For the tests of those who use bundles: parity as an assertion.

Needs what a device needs: numpy and the runtime.
"""

from __future__ import annotations

from pathlib import Path

from tcn_export.bundle import Bundle
from tcn_export.parity.rows import ParityReport, Row
from tcn_export.report.words import at_level, place, sentence, verdict
from tcn_export.verification import verify

_MOST_ROWS = 20


def assert_parity(
    bundle: Bundle | Path | str,
    *,
    data: Path | str | None = None,
    threads: int = 0,
    allow_waived: bool = False,
) -> ParityReport:
    """Assert that a bundle still computes on this machine what the eager model computed.

    Args:
        bundle: What `load_bundle` read, or its path.
        data: An npz file of windows to judge as well; see `verify`.
        threads: Threads of the runtime; 0 takes all cores.
        allow_waived: Let a bundle pass whose export waived a check.

    Returns:
        The report, for further assertions.

    Raises:
        AssertionError: Parity is lost, not decided, or was waived; the text lists the rows.
        ExportError: The bundle or the data cannot be used.
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    report = verify(bundle, data, threads)
    is_passed = report.verdict == "pass" and not report.missing
    if is_passed and (allow_waived or not report.waived):
        return report
    path = bundle.path if isinstance(bundle, Bundle) else bundle
    rows = at_level(report, "failed", "undecided")
    lines = [f"{path}: {verdict(report)}", *map(_line, rows[:_MOST_ROWS])]
    if len(rows) > _MOST_ROWS:
        lines.append(f"  and {len(rows) - _MOST_ROWS} more")
    if is_passed:
        lines.append("  Give allow_waived=True where that is enough.")
    raise AssertionError("\n".join(lines))


def _line(row: Row) -> str:
    return f"  {row.status} {place(row)}: {sentence(row)}"
