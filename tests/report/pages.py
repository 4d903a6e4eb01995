"""A bundle whose manifest holds everything that a page can show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tcn_export.bundle import Bundle, load_bundle
from tcn_export.parity.rows import ParityReport
from tcn_export.report.html import html_bytes
from tcn_export.verification import verify

LAYERS = [f"blocks.{i}.conv{j}" for i in range(3) for j in (1, 2)]


def scores(names: tuple[str, ...], accuracy: float, moved: int) -> dict[str, Any]:
    rows = [
        {"name": n, "precision": 0.9, "sensitivity": None, "f1": 0.8, "support": 9}
        for n in names
    ]
    size = len(names)
    cells = [[80 if i == j else 3 for j in range(size)] for i in range(size)]
    cells[0][0] -= moved
    cells[0][1] += moved
    return {"accuracy": accuracy, "macro_f1": 0.9, "classes": rows, "confusion": cells}


def filled(bundle: Bundle, names: tuple[str, ...] | None = None) -> Bundle:
    """The same bundle, with what scores, layers, budget and saturation write."""
    manifest = bundle.manifest
    names = names or manifest.classes
    layers = [
        {
            "layer": name, "node": f"node_{i}", "value": f"value_{i}", "operator": "Conv",
            "sqnr_db": "inf" if i == 0 else 50.0 - 8 * i, "limit_db": 25.0, "within": i < 4,
        }
        for i, name in enumerate(LAYERS)
    ]  # fmt: skip
    loss = {
        "lost_points": 0.7, "upper_points": 1.4, "confidence": 0.95, "windows": 540,
        "changed": 4, "spoiled": 4, "mended": 0, "needed_windows": 1200, "method": "paired",
    }  # fmt: skip
    both = {"reference": scores(names, 0.921, 0), "actual": scores(names, 0.914, 3)}
    budget = {
        "max_drop": 1.0,
        "layers": [{"layer": n, "node": n, "sqnr_db": 12.0 + i} for i, n in enumerate(LAYERS)],
        "in_float": [LAYERS[0]],
        "recipe": {"calibration": "mse", "equalized": True, "bias_corrected": False},
        "tried": [
            {"recipe": {"calibration": "minmax"}, "in_float": 0, "lost_points": 3.2,
             "upper_points": 5.1, "verdict": "fail"},
        ],
        "latency_us": {"float32": 91.0, "int8": 44.2, "chosen": 51.0},
    }  # fmt: skip
    saturation = {
        "isa": "avx2", "windows": 200, "convolutions": 17,
        "saturating": [{"layer": LAYERS[1], "share": 0.012}],
        "lost_points": 2.1, "changed": 12, "advice": "use --cpu-isa avx2",
    }  # fmt: skip
    more = {"budget": budget, "saturation": saturation, "in_float": [LAYERS[0]]}
    manifest = replace(
        manifest,
        parity={**manifest.parity, "scores": both, "loss": loss, "layers": layers},
        quantization={**(manifest.quantization or {}), **more},
    )
    return replace(bundle, manifest=manifest)


def page_of(path: Path, report: ParityReport | None = None) -> str:
    bundle = load_bundle(path)
    return html_bytes(bundle, report or verify(bundle)).decode()
