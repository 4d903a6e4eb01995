"""What a comparison says: its rows, the report they make, and what later ones are held to.

Part of ``build_engine.py``: Python 3.8, standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tcn_export.errors import BundleError
from tcn_export.parity.tolerance import float32_limit

BUNDLE = "bundle"
"""In place of a feed: the row is about the bundle itself, and nothing ran for it."""
ORACLE = "float64"
"""What the oracle computes in, where all operators of the network allow it."""
BOUNDS = ("accuracy_lost_upper95_points", "relative_rms_gained_upper95_points")
"""Metrics of the bound of a loss: of a classifier, and of a regression."""
ON_THE_DEVICE = "a run on the device"
"""Waived where a device kit is all that was wanted."""
Status = Literal["pass", "fail", "undecided", "waived", "recorded"]
Verdict = Literal["pass", "fail", "undecided"]
Relation = Literal["<=", ">=", "="]
Stage = Literal[
    "artifact", "on the CPU", "before float16", "before int8", "rounded to float16"
]


@dataclass(frozen=True)
class Row:
    """One comparison.

    ``recorded`` rows have no limit of their own at the export: they are what a later
    verification has to reach again. ``waived`` rows were not held to their limit because the
    user said so; ``undecided`` ones have too few windows to be held to it. ``stage`` says what
    was judged: the artifact, its graph in ONNX Runtime on the CPU, the float32 graph before it
    was converted, or float16 arithmetic where the runtime computes in float32 instead.
    """

    feed: str
    output: str
    metric: str
    value: float | str
    relation: Relation
    limit: float | str | None
    status: Status
    note: str = ""
    stage: Stage = "artifact"

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest; infinities become strings, which JSON lacks."""
        return {
            "feed": self.feed,
            "output": self.output,
            "metric": self.metric,
            "value": _plain(self.value),
            "relation": self.relation,
            "limit": _plain(self.limit),
            "status": self.status,
            "note": self.note,
            "stage": self.stage,
        }


@dataclass(frozen=True)
class ParityReport:
    """All rows of one verification, what was waived, and what could not be run here.

    ``oracle`` is the precision of what the artifact was compared with, and where that is not
    float64 the reason. ``scores`` and ``loss`` are what `scoring.tell` makes of windows with
    labels, in JSON types.
    """

    rows: tuple[Row, ...]
    waived: tuple[str, ...] = ()
    missing: str = ""
    oracle: str = ORACLE
    scores: Mapping[str, Any] | None = None
    loss: Mapping[str, Any] | None = None

    @property
    def verdict(self) -> Verdict:
        """``fail`` where a row failed or nothing was judged; ``undecided`` where one is."""
        judged = [row for row in self.rows if row.status in ("pass", "fail", "undecided")]
        seen = {row.status for row in judged}
        if "fail" in seen or all(row.feed == BUNDLE for row in judged):
            return "fail"
        return "undecided" if "undecided" in seen else "pass"

    @property
    def verified(self) -> bool:
        """Passed, with nothing waived and nothing missing."""
        return self.verdict == "pass" and not self.waived and not self.missing

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that failed."""
        return tuple(row for row in self.rows if row.status == "fail")

    @property
    def waived_bounds(self) -> tuple[Row, ...]:
        """The bounds of a loss that nobody was held to."""
        waived = (row for row in self.rows if row.status == "waived")
        return tuple(row for row in waived if row.metric in BOUNDS)

    @property
    def undecided(self) -> tuple[Row, ...]:
        """The rows that so few windows cannot decide."""
        return tuple(row for row in self.rows if row.status == "undecided")

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest."""
        return {
            "verdict": self.verdict,
            "oracle": self.oracle,
            "rows": [row.to_json() for row in self.rows],
            "scores": None if self.scores is None else dict(self.scores),
            "loss": None if self.loss is None else dict(self.loss),
        }


def judge_error(feed: str, output: str, error: float, eager: float, largest: float) -> Row:
    """Hold the largest error of a float32 artifact against what eager float32 itself makes."""
    limit = float32_limit(eager, largest)
    if not math.isfinite(limit):
        note = "eager float32 is not finite where float64 is: the model overflows"
        return Row(feed, output, "max_abs_error", error, "<=", limit, "fail", note)
    status: Status = "pass" if error <= limit else "fail"
    note = f"{error / eager:.1f} x eager float32's own" if eager else "eager float32 is exact"
    return Row(feed, output, "max_abs_error", error, "<=", limit, status, note)


def waive(rows: Iterable[Row], note: str) -> list[Row]:
    """Take judged values out of the verdict; a wrong form still fails."""
    return [
        row
        if row.metric == "form" or row.status == "recorded"
        else replace(row, status="waived", note=note)
        for row in rows
    ]


def waive_undecided(rows: Iterable[Row]) -> list[Row]:
    """Take what cannot be decided out of the verdict, because the user said so."""
    return [
        replace(row, status="waived") if row.status == "undecided" else row for row in rows
    ]


def at_least(
    feed: str, output: str, metric: str, value: float, limit: float, note: str = ""
) -> Row:
    """Hold a value against a lower limit."""
    status: Status = "pass" if value >= limit else "fail"
    return Row(feed, output, metric, value, ">=", limit, status, note)


def _plain(value: float | str | None) -> float | str | None:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def as_exported(metric: str, value: str, wanted: str) -> Row:
    """What no number shows: a verdict that was lost already, names that moved."""
    return Row(BUNDLE, "*", metric, value, "=", wanted, "pass" if value == wanted else "fail")


def judge_export(parity: Mapping[str, Any]) -> Row:
    """Hold the verdict of the export, which nothing that runs later can mend."""
    row = as_exported("verdict of the export", parity["verdict"], "pass")
    notes = [entry["note"] for entry in parity["rows"] if entry["status"] == "undecided"]
    if parity["verdict"] != "undecided":
        return row
    return replace(row, status="undecided", note=notes[0] if notes else "")


def baseline(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, str], float]:
    """What the rows of an export give later verifications to reach again.

    The limit of what was judged, the value of what was only recorded; of the artifact, or of
    what stood for it where it could not run.

    Raises:
        BundleError: A row holds no number.
    """
    noted: dict[tuple[str, str, str], float] = {}
    told = [row for row in rows if row["metric"] != "form"]
    # Last what others were held to: their own limits have the slack in them already.
    for stage in ("rounded to float16", "artifact", "on the CPU"):
        for row in told:
            if row["stage"] == stage:
                noted[row["feed"], row["output"], row["metric"]] = _number(row)
    return noted


def remaining(waived: Iterable[str]) -> tuple[str, ...]:
    """What stays waived once a bundle ran on its device."""
    return tuple(check for check in waived if check != ON_THE_DEVICE)


def _number(row: Mapping[str, Any]) -> float:
    value = row["value"] if row["limit"] is None else row["limit"]
    try:
        return float(value)
    except ValueError as error:
        raise BundleError(
            f"the manifest's row {row['feed']}/{row['metric']} holds {value!r}; expected a "
            "number. Export the model again."
        ) from error
