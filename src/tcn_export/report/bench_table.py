"""What ``tcn-bench`` measured, as tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tcn_export import machine
from tcn_export.report.terminal import why_not_verified

if TYPE_CHECKING:
    from tcn_export.benchmarking import Benchmark, Measured
    from tcn_export.racing import Ratio


def benchmark_table(result: Benchmark) -> RenderableType:
    """The bundles, what each took, and what to bear in mind."""
    host, tools = machine.host(), machine.tools()
    runtimes = (f"{name} {v}" for name, v in tools.items() if name.startswith("onnxruntime"))
    where = ", ".join([f"{host['cpu']}, {machine.cores()} cores", *runtimes])
    parts: list[RenderableType] = [
        _bundles(result),
        "",
        _times(result),
        "",
        Text(where, "dim"),
    ]
    return Group(*parts, *(Text(f"Note: {remark}", "yellow") for remark in result.remarks))


def size(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 2**10:.1f} KB" if abs(count) < 2**20 else f"{count / 2**20:.1f} MB"


def spread(ratio: Ratio) -> str:
    """A ratio with its quantiles over the rounds."""
    return f"{ratio.median:.3f} ({ratio.p10:.3f} to {ratio.p90:.3f})"


def _bundles(result: Benchmark) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("bundle", overflow="fold")
    for column in ("target", "precision"):
        table.add_column(column)
    for column in ("model", "bundle"):
        table.add_column(column, justify="right")
    table.add_column("verified", overflow="fold")
    for bundle in result.bundles:
        manifest, taken = bundle.manifest, bundle.sizes()
        verdict = why_not_verified(manifest)
        style = "green" if verdict == "yes" else "bold red"
        table.add_row(
            str(bundle.path),
            manifest.target,
            manifest.precision,
            size(taken["model_bytes"]),
            size(taken["bundle_bytes"]),
            Text(verdict, style),
        )
    return table


def _times(result: Benchmark) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("bundle", overflow="fold")
    for column in ("threads", "batch", "median us", "p90", "p99", "per window"):
        table.add_column(column, justify="right")
    if len(result.bundles) > 1:
        table.add_column("times as long as the first", justify="right")
    table.add_column("peak memory", justify="right")
    paths = {bundle.path for bundle in result.bundles}
    are_names_enough = len({path.name for path in paths}) == len(paths)
    for entry in result.measured:
        path = entry.bundle.path
        cells = _cells(entry, len(result.bundles) > 1)
        table.add_row(path.name if are_names_enough else str(path), *cells)
    return table


def _cells(entry: Measured, is_compared: bool) -> list[str]:
    latency = entry.timing.latency(entry.threads)
    cells = [
        str(entry.threads or "all"),
        str(entry.batch),
        *(f"{us:.1f}" for us in (latency.median_us, latency.p90_us, latency.p99_us)),
        f"{latency.median_us / entry.batch:.1f}",
    ]
    if is_compared:
        cells.append("" if entry.relative is None else spread(entry.relative))
    memory = entry.memory
    told = "" if memory is None else f"{size(memory.process)}, {size(memory.own)} its own"
    return [*cells, told]
