"""What int8 costs and gains on real signals: by default, and within a budget.

    python tools/benchmark_int8.py --data FOLDER --work FOLDER [NAME ...]

FOLDER of the data holds the npz files (`hapt/hapt.npz`, `ucr/GunPoint.npz` ...). Checkpoints
that the work folder lacks are trained. Each line is printed when it is done: an export in
float32, one with ``--int8-only``, one that may keep layers in float32, all with ``--max-drop
1``; then the three bundles are timed in turns by tcn-bench, on one thread.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmark_real_data import command, prepare

MAX_DROP = 1.0
_UCR = "--batch 8 --epochs 100 --learning-rate 2e-3"
_UCR_TCN = f"--arch tcn --widths 32 --levels 6 --kernel 5 --head mean {_UCR}"
_MANY = "--arch tcn --widths 48 --levels 5 --kernel 5 --head mean --batch 16 --epochs 60"
_MANY_RESNET = "--arch resnet1d --batch 16 --epochs 60 --learning-rate 3e-3"
_SMALL = {"tcn": _UCR_TCN, "resnet1d": f"--arch resnet1d {_UCR}"}
_LARGE = {"tcn": f"{_MANY} --learning-rate 3e-3", "resnet1d": _MANY_RESNET}
_HAPT = "--learning-rate 1e-3 --epochs 15"
_ECG = "--class-weights sqrt --epochs 5"
_ETT = "--length 96 --horizon 24 --learning-rate 1e-3 --epochs 8"
TRAINING: dict[str, dict[str, str]] = {
    "hapt6": {
        "tcn": "--arch tcn --widths 48 --levels 4 --kernel 7 --convolutions 1 --head mean "
        + _HAPT,
        "resnet1d": f"--arch resnet1d {_HAPT}",
    },
    "mitbih_aami": {
        "tcn": f"--arch tcn --widths 32 --levels 5 {_ECG}",
        "resnet1d": f"--arch resnet1d --learning-rate 1e-3 {_ECG}",
    },
    "GunPoint": _SMALL,
    "ItalyPowerDemand": _SMALL,
    "TwoLeadECG": _SMALL,
    "FacesUCR": _LARGE,
    "SwedishLeaf": _LARGE,
    "etth1": {
        "tcn": f"--arch tcn --widths 32 --levels 5 --dropout 0.2 {_ETT}",
        "resnet1d": f"--arch resnet1d {_ETT}",
    },
}
NAMES = [f"{data}-{arch}" for data, archs in TRAINING.items() for arch in archs]
EXPORTS: dict[str, list[str]] = {"float32": [], "int8-only": ["--int8-only"], "int8": []}


def main() -> None:
    """Run what was asked for and print one line per network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build/benchmark-int8"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    print(
        "| data, network | windows | float32 | int8 alone | within 1 point | kept in float32 "
        "| int8 convolutions | times as fast as float32: int8 alone, within 1 point |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for name in args.names or NAMES:
        print(line(name, args.data, args.work), flush=True)


def line(name: str, data: Path, work: Path) -> str:
    """Train where needed, export three times, time the three."""
    model, windows = trained(name, data, work)
    exported = {kind: export(kind, model, windows, work) for kind in EXPORTS}
    paths = {kind: entry["bundle"] for kind, entry in exported.items()}
    others = [x for kind in ("int8-only", "int8") for x in ("--against", paths[kind])]
    timed = command("tcn-bench", [paths["float32"], *others], work / f"{name}-bench.json")
    ratios = [f"{1 / ratio:.2f}" for ratio in _ratios(timed)]
    kept = exported["int8"]["quantization"]["in_float"]
    coverage = exported["int8"]["quantization"]["coverage"]
    return (
        f"| {name} | {exported['int8']['parity']['loss']['windows']:,} "
        f"| {_score(exported['float32'], 'reference')} | {_loss(exported['int8-only'])} "
        f"| {_loss(exported['int8'])} | {', '.join(kept) or '-'} "
        f"| {coverage['integer_convolutions']} of {coverage['convolutions']} "
        f"| {', '.join(ratios)} |"
    )


def trained(name: str, data: Path, work: Path) -> tuple[Path, Path]:
    """The checkpoint of a network and its windows."""
    source, _, arch = name.rpartition("-")
    model, windows = work / f"{name}.pt", work / f"{name}.npz"
    if not (model.exists() and windows.exists()):
        options = [*TRAINING[source][arch].split(), "--validation", "0", "--overwrite"]
        files = ["--out", str(model), "--save-data", str(windows)]
        npz = str(prepare(source, data, work))
        command("tcn-train", [npz, *options, *files], work / f"{name}.json")
    return model, windows


def export(kind: str, model: Path, windows: Path, work: Path) -> dict[str, Any]:
    """One export; parity lost (3) is a result too."""
    precision = kind.partition("-")[0]
    options = ["--target", "onnx", "--precision", precision, "--max-drop", str(MAX_DROP)]
    files = ["--data", str(windows), "--out", str(work / kind), "--overwrite"]
    kept = work / f"{model.stem}-{kind}.json"
    return command("tcn-export", [str(model), *options, *EXPORTS[kind], *files], kept)


def _ratios(timed: dict[str, Any]) -> list[float]:
    """How many times as long the second and the third bundle take as the first."""
    return [entry["relative_to_first"]["median"] for entry in timed["measured"][1:]]


def _score(exported: dict[str, Any], side: str) -> str:
    scores = exported["parity"]["scores"][side]
    if "rmse" in scores:
        return f"RMSE {scores['rmse']:.4g}"
    return f"{100 * scores['accuracy']:.2f} %"


def _loss(exported: dict[str, Any]) -> str:
    parity = exported["parity"]
    loss = parity["loss"]
    upper = "unbounded" if loss["upper_points"] is None else f"{loss['upper_points']:.2f}"
    told = f"{_score(exported, 'actual')}, lost {loss['lost_points']:.2f}, at most {upper}"
    return f"{told}: {parity['verdict']}"


if __name__ == "__main__":
    main()
