"""Outcomes of every kind, and names as a hostile file would choose them."""

from __future__ import annotations

from pathlib import Path

from tcn_export.bundle import load_bundle
from tcn_export.errors import BundleError
from tcn_export.parity.rows import BUNDLE, ParityReport, Row
from tcn_export.report.words import Outcome

REFERENCE = Path(__file__).resolve().parents[2] / "exported" / "reference"
HOSTILE = (
    "</td><script>alert(1)</script>|`x`\x00\x1b[31m\n::error::@octocat #1 ]]> \ufffe & %0A"
)
FAILED = Row("real", "logits", "sqnr_db", 12.345678, ">=", 20.0, "fail", "2 x noise")
PASSED = Row("normal", "logits", "max_abs_error", 1e-7, "<=", 2e-6, "pass", "0.4 x own")
WAIVED = Row("real", "logits", "agreement", 0.5, ">=", 0.98, "waived", "seeded noise")
RECORDED = Row("windows", "logits", "accuracy", 0.99999, "=", None, "recorded")
UNDECIDED = Row("windows", "y", "accuracy_lost_upper95_points", 2.5, "<=", 1.0, "undecided")  # type: ignore[arg-type]
STRANGE = Row("real", "logits", "sqnr_db", 1.0, ">=", 2.0, "abstained")  # type: ignore[arg-type]
TOLD = Row(BUNDLE, "*", "class order", "a, b", "=", "b, a", "fail")
ROWS = (TOLD, FAILED, PASSED, WAIVED, RECORDED, UNDECIDED, STRANGE)


def of(*rows: Row, **report) -> Outcome:
    manifest = load_bundle(REFERENCE / "basic_motions-onnx-int8").manifest
    return Outcome(
        "tcn-verify", "out/m-onnx-int8", 1.5, ParityReport(rows, **report), manifest
    )


def of_error(text: str = "the file is damaged") -> Outcome:
    return Outcome("tcn-verify", "out/m-onnx-int8", 0.1, error=BundleError(text))


def hostile() -> Outcome:
    row = Row(HOSTILE, HOSTILE, HOSTILE, HOSTILE, "=", HOSTILE, "fail", HOSTILE)
    return Outcome("tcn-verify", f"out/{HOSTILE}", 0.1, ParityReport((row,), (HOSTILE,)))
