"""The form that ``parity`` has in a manifest."""

from __future__ import annotations

from typing import get_args

from tcn_export.parity.rows import ORACLE, Stage, Status, Verdict
from tcn_export.structure import NUMBER, TEXT, Maybe

_UNKNOWN_OR = (None, NUMBER)
_COUNT = (None, int)
_CLASSIFICATION = {
    "accuracy": NUMBER,
    "macro_f1": NUMBER,
    "classes": [
        {
            "name": TEXT,
            "precision": _UNKNOWN_OR,
            "sensitivity": _UNKNOWN_OR,
            "f1": _UNKNOWN_OR,
            "support": int,
        }
    ],
    "confusion": [[int]],
}
_REGRESSION = {"rmse": NUMBER, "mae": _UNKNOWN_OR, "r2": Maybe(_UNKNOWN_OR)}
_SCORES = (_REGRESSION, _CLASSIFICATION)
_ROW = {
    "feed": TEXT,
    "output": TEXT,
    "metric": TEXT,
    "value": (TEXT, NUMBER),
    "relation": TEXT,
    "limit": (None, TEXT, NUMBER),
    "status": set(get_args(Status)),
    "note": TEXT,
    "stage": set(get_args(Stage)),
}
PARITY = {
    "verdict": set(get_args(Verdict)),
    "oracle": TEXT,
    "rows": [_ROW],
    "max_drop": NUMBER,
    "data": (None, {"name": TEXT, "sha256": TEXT, "windows": int, "labelled": bool}),
    "scores": (None, {"reference": _SCORES, "actual": _SCORES}),
    "loss": (
        None,
        {
            "lost_points": NUMBER,
            "upper_points": _UNKNOWN_OR,
            "confidence": NUMBER,
            "windows": int,
            "changed": _COUNT,
            "spoiled": _COUNT,
            "mended": _COUNT,
            "needed_windows": _COUNT,
            "fewest_windows": _COUNT,
            "method": TEXT,
        },
    ),
}
"""See README: ``scores`` and ``loss`` are there where the windows had labels."""
LATER = {"oracle": ORACLE, "scores": None, "loss": None}
"""What older bundles lack, and what that means."""
