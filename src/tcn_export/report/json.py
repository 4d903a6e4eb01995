"""The result as JSON: what ``--json`` prints, and ``report.json`` in the bundle."""

from __future__ import annotations

import json
from typing import Any

from tcn_export.parity.rows import ParityReport

REPORT_FILE = "report.json"


def report_to_json(report: ParityReport) -> dict[str, Any]:
    """Verdict, waived checks and all rows."""
    return {
        "verified": report.verified,
        "waived": list(report.waived),
        **report.to_json(),
    }


def report_to_bytes(report: ParityReport) -> bytes:
    """The content of ``report.json``."""
    return (json.dumps(report_to_json(report), indent=2, allow_nan=False) + "\n").encode()
