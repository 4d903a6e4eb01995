"""How fast bundles are, and what they take: latency in turns, size on disk, peak memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcn_export import machine
from tcn_export.bundle import Bundle, load_bundle
from tcn_export.data import Array
from tcn_export.peak_memory import PeakMemory, measure_peak_memory
from tcn_export.progress import Progress, Silent
from tcn_export.racing import ROUNDS, Ratio, Timing, race_runners, ratio
from tcn_export.targets import timed
from tcn_export.timed_feeds import timed_feeds


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What to measure.

    Attributes:
        threads: Threads of the runtime, one run for each; 0 takes all cores.
        batches: Windows per call, one run for each.
        rounds: Turns that every bundle gets; see `racing`.
        length: Steps per window, for bundles that leave it open; None as in the golden data.
    """

    threads: tuple[int, ...] = (1,)
    batches: tuple[int, ...] = (1,)
    rounds: int = ROUNDS
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One bundle, with so many threads, on so many windows per call.

    ``relative`` is its time over that of the first bundle, None for the first one itself;
    ``memory`` is None where the system does not tell.
    """

    bundle: Bundle
    threads: int
    batch: int
    timing: Timing
    relative: Ratio | None
    memory: PeakMemory | None

    def to_json(self) -> dict[str, Any]:
        """The entry of the result; times in microseconds."""
        latency = self.timing.latency(self.threads)
        rounds = self.timing.round_medians * 1e6
        return {
            "bundle": str(self.bundle.path),
            "threads": self.threads,
            "batch": self.batch,
            "per_call": latency.to_json(),
            "per_window": {
                "median_us": round(latency.median_us / self.batch, 2),
                "p90_us": round(latency.p90_us / self.batch, 2),
                "p99_us": round(latency.p99_us / self.batch, 2),
            },
            "round_medians_us": [round(us, 2) for us in rounds.tolist()],
            "relative_to_first": None if self.relative is None else self.relative.to_json(),
            "peak_memory": None if self.memory is None else self.memory.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What was measured; ``load`` is that of the machine before, None where it is not told."""

    bundles: tuple[Bundle, ...]
    measured: tuple[Measured, ...]
    load: float | None

    @property
    def remarks(self) -> list[str]:
        """What to bear in mind."""
        remarks = [machine.busy(self.load)]
        if any(bundle.manifest.target != "onnx" for bundle in self.bundles):
            remarks.append(
                "peak memory is the host's, the driver's part in it; the GPU's is not told"
            )
        return [remark for remark in remarks if remark is not None]

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "host": machine.host(),
            "tools": machine.tools(),
            "load": {"before": self.load, "cores": machine.cores()},
            "remarks": self.remarks,
            "bundles": [_describe(bundle) for bundle in self.bundles],
            "measured": [entry.to_json() for entry in self.measured],
        }


def benchmark(
    paths: Sequence[Path | str], options: BenchOptions, progress: Progress | None = None
) -> Benchmark:
    """Time bundles in turns, with every number of threads and every batch.

    Args:
        paths: The bundles; the first is what the others are compared with.
        options: What to measure.
        progress: Told of every stage; None tells nobody.

    Raises:
        ExportError: A bundle cannot be used, or the target cannot run on this machine.
    """
    progress = progress or Silent()
    load = machine.load()  # before this process adds to it
    bundles = tuple(load_bundle(path) for path in paths)
    fed = {
        batch: [timed_feeds(bundle, batch, options.length) for bundle in bundles]
        for batch in options.batches
    }
    measured: list[Measured] = []
    for threads in options.threads:
        for batch, feeds in fed.items():
            measured += _measure(bundles, feeds, threads, batch, options.rounds, progress)
    return Benchmark(bundles, tuple(measured), load)


def _measure(
    bundles: Sequence[Bundle],
    fed: Sequence[Mapping[str, Array]],
    threads: int,
    batch: int,
    rounds: int,
    progress: Progress,
) -> list[Measured]:
    told = f"{threads or 'all'} thread{'' if threads == 1 else 's'}, batch {batch}"
    # One bundle may be given twice: to see what a difference of nothing looks like.
    places = [str(place) for place in range(len(bundles))]
    runners = {
        place: timed(bundle.stepper(threads), bundle.manifest.signature, feeds)
        for place, bundle, feeds in zip(places, bundles, fed, strict=True)
    }
    with progress.stage(f"Timing, {told}", rounds) as advance:
        timings = race_runners(runners, dict(zip(places, fed, strict=True)), rounds, advance)
    measured: list[Measured] = []
    with progress.stage("Measuring memory", len(bundles)) as advance:
        for bundle, feeds, timing in zip(bundles, fed, timings.values(), strict=True):
            relative = ratio(timing, timings["0"]) if measured else None
            memory = measure_peak_memory(bundle, threads, feeds)
            measured.append(Measured(bundle, threads, batch, timing, relative, memory))
            advance()
    return measured


def _describe(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.path),
        "target": manifest.target,
        "precision": manifest.precision,
        "parity": manifest.parity["verdict"],
        "verified": manifest.verified,
        "waived": list(manifest.waived),
        **bundle.sizes(),
    }
