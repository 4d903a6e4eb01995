"""``tcn-bench``: how fast bundles are on this machine; needs no PyTorch."""

from __future__ import annotations

from pathlib import Path

import click

from tcn_export.cli.common import Screen, command
from tcn_export.graph import LONGEST


@command(
    "Times are wall time from host to host. Exit code: 0 measured, 1 a bundle cannot be used, "
    "2 wrong usage, 4 the target cannot run here."
)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    multiple=True,
    help="Another bundle, timed in turns with the first. May be repeated.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=(1,),
    show_default=True,
    multiple=True,
    help="Threads of the runtime; 0 takes all cores. May be repeated.",
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1, 4096),
    default=(1,),
    show_default=True,
    multiple=True,
    help="Windows per call. May be repeated.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 10_000),
    default=30,
    show_default=True,
    help="Turns that every bundle gets, of up to 20 calls.",
)
@click.option(
    "--length",
    type=click.IntRange(1, LONGEST),
    help="Steps per window, where the bundle leaves that open.",
)
def main(
    screen: Screen,
    bundle: Path,
    against: tuple[Path, ...],
    threads: tuple[int, ...],
    batches: tuple[int, ...],
    rounds: int,
    length: int | None,
) -> int:
    """Measure latency, size and memory of BUNDLE on this machine."""
    from tcn_export.benchmarking import BenchOptions, benchmark
    from tcn_export.report.bench_table import benchmark_table

    options = BenchOptions(threads=threads, batches=batches, rounds=rounds, length=length)
    result = benchmark([bundle, *against], options, screen.progress())
    screen.result(result.to_json, lambda: benchmark_table(result))
    return 0
