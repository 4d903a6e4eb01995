"""A bundle's candidates raced on this machine: the fastest that keeps parity is its model.

The machine that exports is often not the one that runs the model, and which reformulation of a
graph is fastest depends on the processor. So a bundle keeps those that the export measured. On
the device they are measured again, the winner is held to the golden data, and the bundle is
written anew in one step; a crash leaves the old one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tcn_export import machine
from tcn_export.benchmarking import BenchOptions
from tcn_export.bundle import Bundle, load_bundle, write_bundle
from tcn_export.errors import BundleError, OutputError, UsageError
from tcn_export.files import check_writable
from tcn_export.manifest import MANIFEST_FILE
from tcn_export.parity.rows import ParityReport
from tcn_export.progress import Progress, Silent
from tcn_export.racing import Timing, race_runners, ratio
from tcn_export.report.json import report_to_json
from tcn_export.targets.base import Runner
from tcn_export.timed_feeds import timed_feeds
from tcn_export.verification import verify


@dataclass(frozen=True, slots=True)
class Tuning:
    """What the race and the golden data said.

    Attributes:
        before: The bundle as it was.
        after: The bundle as it is now; None where no candidate kept parity and nothing was
            written.
        threads: What the candidates ran with.
        timings: Of every candidate, the fastest first.
        reports: Of the candidates that were judged: the choice last, before it what was faster
            and lost parity.
        load: Of the machine, before it was measured; None where it is not told.
    """

    before: Bundle
    after: Bundle | None
    threads: int
    timings: Mapping[str, Timing]
    reports: Mapping[str, ParityReport]
    load: float | None

    @property
    def choice(self) -> str | None:
        """What the bundle's model is now."""
        return None if self.after is None else str(_layout(self.after)["choice"])

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        layout = _layout(self.before)
        old = self.timings[layout["choice"]]
        recorded = {entry["name"]: entry for entry in layout["candidates"]}
        return {
            "bundle": str(self.before.path),
            "host": machine.host(),
            "load": {"before": self.load, "cores": machine.cores()},
            "threads": self.threads,
            "choice": {"before": layout["choice"], "after": self.choice},
            "verified": self.after is not None and self.after.manifest.verified,
            "candidates": [
                {
                    "name": name,
                    "recorded": {k: recorded[name][k] for k in ("median_us", "p90_us")},
                    "here": timing.latency(self.threads).to_json(),
                    "relative_to_before": ratio(timing, old).to_json(),
                    "parity": report_to_json(self.reports[name])
                    if name in self.reports
                    else None,
                }
                for name, timing in self.timings.items()
            ],
        }


def tune(path: Path | str, options: BenchOptions, progress: Progress | None = None) -> Tuning:
    """Make the candidate that is fastest here, and computes the same, the bundle's model.

    Args:
        path: The bundle.
        options: One number of threads, one window per call, and the rounds.
        progress: Told of every stage; None tells nobody.

    Raises:
        UsageError: The bundle holds no candidates, or the options ask for more than one race.
        ExportError: The bundle cannot be used or written, or cannot run on this machine.
    """
    progress = progress or Silent()
    threads = _check_options(options)
    load = machine.load()
    bundle = load_bundle(path)
    names = _check_candidates(bundle)
    _check_replaceable(bundle)
    feeds = timed_feeds(bundle)
    runners = {name: _runner(bundle, name, threads) for name in names}
    with progress.stage("Timing the candidates", options.rounds) as advance:
        raced = race_runners(runners, dict.fromkeys(names, feeds), options.rounds, advance)
    ranked = dict(sorted(raced.items(), key=lambda entry: entry[1].median))
    reports: dict[str, ParityReport] = {}
    for name in ranked:
        chosen = _choosing(bundle, name)
        reports[name] = verify(chosen, threads=threads, progress=progress)
        if reports[name].verdict == "pass":
            written = _write(chosen, ranked, threads, reports[name].verified)
            return Tuning(bundle, written, threads, ranked, reports, load)
    return Tuning(bundle, None, threads, ranked, reports, load)


def _runner(bundle: Bundle, name: str, threads: int) -> Runner:
    try:
        return _choosing(bundle, name).stepper(threads)
    except BundleError as error:
        raise BundleError(
            f"the candidate {name} of {bundle.path} ({_file(bundle, name)}) does not run "
            f"here: {error} Use a newer runtime, or export again with an older --opset."
        ) from error


def _check_options(options: BenchOptions) -> int:
    """The number of threads."""
    if len(options.threads) != 1 or options.batches != (1,) or options.length is not None:
        raise UsageError(
            "tuning times one window per call, with one number of threads: give --threads "
            "once at most, and neither --batch nor --length."
        )
    return options.threads[0]


def _layout(bundle: Bundle) -> Mapping[str, Any]:
    layout = bundle.manifest.layout
    if bundle.manifest.mode == "stream":
        raise UsageError(
            f"{bundle.path} is a stream, which holds one form. Export it again on this "
            "machine with --state-form auto to have them measured here."
        )
    if layout is None:
        raise UsageError(
            f"{bundle.path} holds one graph and no candidates beside it, so there is nothing "
            "to choose from: it was exported by an older version, for a target without "
            "candidates, or with a layout of its own. Export it again with --layout auto."
        )
    return layout


def _check_candidates(bundle: Bundle) -> list[str]:
    """The names of the candidates; each must have the file that belongs to its name."""
    layout = _layout(bundle)
    if bundle.manifest.target == "trt":
        raise UsageError(
            f"{bundle.path} is for TensorRT, whose builder measures by itself: build the "
            "engine on this device with python3 build_engine.py."
        )
    files = {entry["name"]: entry["file"] for entry in layout["candidates"]}
    wanted = {name: _file(bundle, name) for name in files}
    spare = f"layout-{layout['choice']}.onnx"
    if (
        layout["choice"] not in files
        or len(files) != len(layout["candidates"])
        or files != wanted
        or not set(files.values()) <= set(bundle.files)
        or Path(spare).name != spare
        or spare in bundle.files
    ):
        told = ", ".join(f"{name} in {file}" for name, file in files.items())
        raise BundleError(
            f"the manifest of {bundle.path} names the candidates {told or 'none'} and chose "
            f"{layout['choice']}, which are not those that it holds. It was altered; export "
            "the model again."
        )
    return list(files)


def _file(bundle: Bundle, name: str) -> str:
    """Where a bundle keeps a candidate."""
    is_choice = name == _layout(bundle)["choice"]
    return bundle.manifest.model if is_choice else f"layout-{name}.onnx"


def _check_replaceable(bundle: Bundle) -> None:
    """Raise `OutputError` where the bundle cannot be replaced, or not without a loss."""
    strange = sorted({*os.listdir(bundle.path)} - {*bundle.files, MANIFEST_FILE})
    if strange:
        raise OutputError(
            f"{bundle.path} holds {', '.join(strange)}, which the bundle does not list and "
            "which would be lost when it is written anew. Move that elsewhere first."
        )
    check_writable(bundle.path.resolve().parent)


def _choosing(bundle: Bundle, name: str) -> Bundle:
    """The same bundle with another candidate as its model; nothing is written."""
    layout, manifest = _layout(bundle), bundle.manifest
    files = dict(bundle.files)
    files[f"layout-{layout['choice']}.onnx"] = files[manifest.model]
    files[manifest.model] = files.pop(f"layout-{name}.onnx")
    chosen = {**layout, "choice": name}
    quantization = manifest.quantization
    for entry in layout["candidates"]:
        if entry["name"] == name and "coverage" in entry and quantization is not None:
            quantization = {**quantization, "coverage": entry["coverage"]}
    changed = replace(manifest, layout=chosen, quantization=quantization)
    return replace(bundle, manifest=changed, files=files)


def _write(
    chosen: Bundle, timings: Mapping[str, Timing], threads: int, is_verified: bool
) -> Bundle:
    """Write the bundle anew with what was measured."""
    candidates = []
    for entry in _layout(chosen)["candidates"]:
        latency = timings[entry["name"]].latency(threads).to_json()
        times = {key: latency[key] for key in ("median_us", "p90_us")}
        candidates.append({**entry, "file": _file(chosen, entry["name"]), **times})
    layout = {
        **_layout(chosen),
        "measured_on": machine.host(),
        "threads": threads,
        "candidates": candidates,
    }
    manifest = replace(
        chosen.manifest,
        layout=layout,
        latency=timings[layout["choice"]].latency(threads).to_json(),
        verified=is_verified,
    )
    return write_bundle(chosen.path, manifest, chosen.files, overwrite=True)
