"""Train, export and verify on real signals with the real commands, and print the table.

    python tools/benchmark_real_data.py --data FOLDER [--work build/benchmark] [NAME ...]

FOLDER holds hapt/hapt.npz, ucr/GunPoint.npz and so on. Names are those of `RUNS`; none means
all. Finished steps are kept in the work folder and not repeated. The figures come from what
the commands print under ``--json``; the forecast's are computed here from the exported bundle,
beside those of repeating the last value.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tcn_export import load_bundle
from tcn_export.npz import load_dataset

COMMANDS = Path(sys.executable).parent
HORIZON = 24


@dataclass(frozen=True)
class Run:
    """One network on one data set: the options of its training, over how many seeds."""

    data: str
    options: str
    seeds: int = 1
    max_drop: float = 1.0


UCR = "--arch resnet-wang --validation 0 --batch 8 --learning-rate 1e-3 --epochs"
RUNS = {
    "hapt-tcn": Run(
        "hapt6",
        "--arch tcn --widths 48 --levels 4 --kernel 7 --convolutions 1 --head mean "
        "--learning-rate 1e-3 --validation 0 --epochs 25",
        seeds=3,
    ),
    "hapt-resnet1d": Run(
        "hapt6",
        "--arch resnet1d --learning-rate 1e-3 --validation 0 --epochs 25",
        seeds=3,
    ),
    "GunPoint": Run("GunPoint", f"{UCR} 150", seeds=3, max_drop=15),
    "TwoLeadECG": Run("TwoLeadECG", f"{UCR} 200", seeds=3),
    "ItalyPowerDemand": Run("ItalyPowerDemand", f"{UCR} 150", seeds=3),
    "ECG200": Run("ECG200", f"{UCR} 100", seeds=3, max_drop=15),
    "mitbih-tcn": Run(
        "mitbih_aami",
        "--arch tcn --widths 32 --levels 5 --class-weights sqrt --epochs 12",
    ),
    "mitbih-resnet1d": Run(
        "mitbih_aami",
        "--arch resnet1d --class-weights sqrt --learning-rate 1e-3 --epochs 12",
    ),
    "etth1-tcn": Run(
        "etth1",
        f"--length 96 --horizon {HORIZON} --arch tcn --widths 32 --levels 5 --dropout 0.2 "
        "--learning-rate 1e-3 --epochs 15",
        max_drop=5,
    ),
}


def main() -> None:
    """Run what was asked for and print one line per network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*RUNS, []], metavar="NAME")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build/benchmark"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    print(
        "| run | parameters | seconds | test score | float32 | int8 loss, upper 95 % "
        "| int8 coverage | float32 / int8 us |\n|---|---|---|---|---|---|---|---|"
    )
    for name in args.names or RUNS:
        print(line(name, RUNS[name], args.data, args.work), flush=True)
        for detail in details(name, RUNS[name], args.work):
            print(detail, flush=True)


def line(name: str, run: Run, data: Path, work: Path) -> str:
    """Train with every seed, export the first in both precisions, and sum up."""
    windows = prepare(run.data, data, work)
    trained = [train(name, run, seed, windows, work) for seed in range(run.seeds)]
    model, saved = work / f"{name}-0.pt", work / f"{name}.npz"
    exported = {p: export(model, saved, p, run, work) for p in ("float32", "int8")}
    rows = {p: {r["metric"]: r for r in e["parity"]["rows"]} for p, e in exported.items()}
    loss = next(r for m, r in rows["int8"].items() if m.endswith("upper95_points"))
    worst = max(
        r["value"] / r["limit"]
        for r in exported["float32"]["parity"]["rows"]
        if r["metric"] == "max_abs_error"
    )
    coverage = exported["int8"]["quantization"]["coverage"]
    latency = [exported[p]["latency"]["median_us"] for p in ("float32", "int8")]
    return (
        f"| {name} | {trained[0]['parameters']:,} "
        f"| {' '.join(str(round(t['seconds'])) for t in trained)} | {score(trained)} "
        f"| {exported['float32']['parity']['verdict']}, {worst:.2f} of the limit "
        f"| {loss['status']}: {loss['value']:.2f} <= {loss['limit']:g}; {loss['note']} "
        f"| {coverage['integer_convolutions']} of {coverage['convolutions']} "
        f"| {latency[0]:.0f} / {latency[1]:.0f} |"
    )


def prepare(name: str, data: Path, work: Path) -> Path:
    """The npz file to train on; of hapt the six classes that UCI HAR has."""
    if name != "hapt6":
        return next(data.rglob(f"{name}.npz"))
    path = work / "hapt6.npz"
    if not path.exists():
        with np.load(data / "hapt" / "hapt.npz") as archive:
            arrays = dict(archive)
        for part in ("train", "test"):
            kept = arrays[f"y_{part}"] < 6
            for key in (f"x_{part}", f"y_{part}", f"subject_{part}"):
                arrays[key] = arrays[key][kept]
        arrays["class_names"] = arrays["class_names"][:6]
        keys = [k for k in arrays if not k.startswith(("exp_", "start_"))]
        np.savez_compressed(path, **{k: arrays[k] for k in keys})
    return path


def train(name: str, run: Run, seed: int, windows: Path, work: Path) -> dict[str, Any]:
    """Train one seed."""
    model = work / f"{name}-{seed}.pt"
    options = [*run.options.split(), "--seed", str(seed), "--out", str(model), "--overwrite"]
    if seed == 0:
        options += ["--save-data", str(work / f"{name}.npz")]
    return command("tcn-train", [str(windows), *options], model.with_suffix(".json"))


def export(model: Path, windows: Path, precision: str, run: Run, work: Path) -> dict[str, Any]:
    """Export one precision; parity lost (3) is a result too."""
    options = f"--target onnx --precision {precision} --max-drop {run.max_drop} --overwrite"
    paths = ["--data", str(windows), "--out", str(work)]
    kept = model.with_name(f"{model.stem}-{precision}.json")
    return command("tcn-export", [str(model), *options.split(), *paths], kept)


def command(program: str, arguments: list[str], kept: Path) -> dict[str, Any]:
    """Run a command once and keep what it printed, with the options it was given."""
    if kept.exists():
        result: dict[str, Any] = json.loads(kept.read_text())
        if result["arguments"] == arguments:
            return result
    start = time.perf_counter()
    done = subprocess.run(
        [COMMANDS / program, *arguments, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    if done.returncode not in (0, 3):
        raise SystemExit(f"{program} {' '.join(arguments)}: exit code {done.returncode}")
    seconds = time.perf_counter() - start
    result = {**json.loads(done.stdout), "seconds": seconds, "arguments": arguments}
    kept.write_text(json.dumps(result))
    return result


def score(trained: list[dict[str, Any]]) -> str:
    """Accuracy of every seed with the mean, or the error of a regression."""
    if "mse" in trained[0]:
        return f"MSE {trained[0]['mse']:.4g} (units squared)"
    values = [100 * t["accuracy"] for t in trained]
    text = " ".join(f"{value:.2f}" for value in values)
    f1 = f"macro-F1 {trained[0]['macro_f1']:.3f}"
    return f"{text} %, {f1}" if len(values) == 1 else f"mean {np.mean(values):.2f} % ({text})"


def details(name: str, run: Run, work: Path) -> list[str]:
    """What the issue asks to report beyond the table."""
    if name.startswith("mitbih"):
        trained = json.loads((work / f"{name}-0.json").read_text())
        return [
            f"  {name} {c['name']}: sensitivity {c['sensitivity']:.3f}, "
            f"precision {c['precision'] or 0:.3f}, F1 {c['f1']:.3f} ({c['support']} windows)"
            for c in trained["classes"]
        ]
    if run.data == "etth1":
        return [forecast(name, work, precision) for precision in ("float32", "int8")]
    return []


def forecast(name: str, work: Path, precision: str) -> str:
    """Mean squared error in deviations of each channel, of the bundle and of persistence."""
    dataset = load_dataset(work / f"{name}.npz")
    assert dataset.train is not None
    assert dataset.test is not None
    assert dataset.test.y is not None
    bundle = load_bundle(work / f"{name}-0-onnx-{precision}")
    x, channels = dataset.test.x, dataset.test.x.shape[1]
    truth = dataset.test.y.reshape(-1, channels, HORIZON)
    output = bundle.manifest.signature.outputs[0].name
    told = bundle.runner().run({"signal": x})[output].reshape(truth.shape)
    deviation = dataset.train.x.std(axis=(0, 2))[:, None]
    repeated = np.repeat(x[:, :, -1:], HORIZON, axis=2)
    ours, theirs = (float((((y - truth) / deviation) ** 2).mean()) for y in (told, repeated))
    return f"  {name} {precision}: z-scored MSE {ours:.4f}, last value repeated {theirs:.4f}"


if __name__ == "__main__":
    main()
