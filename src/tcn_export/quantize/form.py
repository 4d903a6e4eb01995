"""The form that ``quantization`` has in a manifest."""

from __future__ import annotations

from tcn_export.structure import NUMBER, TEXT, Each, Maybe

COVERAGE = {
    "integer_convolutions": int,
    "convolutions": int,
    "left_in_float": [TEXT],
}
_RECIPE = {"calibration": TEXT, "equalized": bool, "bias_corrected": bool}
_DECIBELS = (TEXT, NUMBER)
_BUDGET = {
    "max_drop": NUMBER,
    "layers": [{"layer": TEXT, "node": TEXT, "sqnr_db": _DECIBELS}],
    "in_float": [TEXT],
    "recipe": _RECIPE,
    "recipes": [{**_RECIPE, "sqnr_db": _DECIBELS}],
    "tried": [
        {
            "recipe": _RECIPE,
            "in_float": int,
            "lost_points": (None, NUMBER),
            "upper_points": (None, NUMBER),
            "looks": int,
            "verdict": TEXT,
        }
    ],
    "looks": int,
    "latency_us": (None, Each(NUMBER)),
}
_SATURATION = {
    "isa": TEXT,
    "windows": int,
    "convolutions": int,
    "saturating": [{"layer": TEXT, "share": NUMBER}],
    "lost_points": (None, NUMBER),
    "changed": (None, int),
    "advice": TEXT,
}
QUANTIZATION = {
    "isa": Maybe((None, TEXT)),
    "calibration": TEXT,
    "equalized": Maybe(bool),
    "bias_corrected": Maybe(bool),
    "windows": Maybe(int),
    "streams": Maybe(int),
    "calibrated": Maybe(TEXT),
    "coverage": COVERAGE,
    "in_float": Maybe([TEXT]),
    "budget": Maybe((None, _BUDGET)),
    "saturation": Maybe((None, _SATURATION)),
}
"""``budget`` tells the search for layers to keep in float32, where int8 lost too much;
``saturation`` tells what the file does on x86 without VNNI."""
