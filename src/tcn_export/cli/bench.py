"""``tcn-bench``: how fast bundles are on this machine, and the fastest form of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tcn_export.cli.common import Screen, command
from tcn_export.errors import PARITY_FAILED
from tcn_export.graph import LONGEST

if TYPE_CHECKING:
    from tcn_export.benchmarking import BenchOptions


@command(
    "Times are wall time from host to host. Exit code: 0 measured, 1 a bundle cannot be used, "
    "2 wrong usage, 3 no candidate of --tune kept parity, 4 the target cannot run here."
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
@click.option(
    "--tune",
    is_flag=True,
    help="Race the candidates that BUNDLE holds, and make the fastest its model.",
)
def main(
    screen: Screen,
    bundle: Path,
    against: tuple[Path, ...],
    threads: tuple[int, ...],
    batches: tuple[int, ...],
    rounds: int,
    length: int | None,
    tune: bool,
) -> int:
    """Measure latency, size and memory of BUNDLE on this machine; needs no PyTorch."""
    from tcn_export.benchmarking import BenchOptions, benchmark
    from tcn_export.report.bench_table import benchmark_table

    options = BenchOptions(threads=threads, batches=batches, rounds=rounds, length=length)
    if tune and against:
        raise click.UsageError("--tune measures one bundle: leave --against out.")
    if tune:
        return _tune(screen, bundle, options)
    result = benchmark([bundle, *against], options, screen.progress())
    screen.result(result.to_json, lambda: benchmark_table(result))
    return 0


def _tune(screen: Screen, bundle: Path, options: BenchOptions) -> int:
    from tcn_export.report import tuning_table
    from tcn_export.tuning import tune

    result = tune(bundle, options, screen.progress())
    screen.result(
        result.to_json,
        lambda: tuning_table.tuning_table(result),
        lambda: tuning_table.passed_over(result),
        lambda: tuning_table.choice_line(result),
    )
    if result.choice is None:
        screen.failure(str(tuning_table.choice_line(result)))
        return PARITY_FAILED
    return 0
