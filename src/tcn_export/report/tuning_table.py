"""What ``tcn-bench --tune`` found, as a table on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tcn_export import machine
from tcn_export.racing import ratio
from tcn_export.report.bench_table import spread

if TYPE_CHECKING:
    from tcn_export.tuning import Tuning


def tuning_table(result: Tuning) -> RenderableType:
    """One line per candidate, the fastest first."""
    layout = result.before.manifest.layout
    assert layout is not None
    recorded = {entry["name"]: entry["median_us"] for entry in layout["candidates"]}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("candidate", overflow="fold")
    for column in ("recorded us", "median us", "p90", "times as long as before"):
        table.add_column(column, justify="right")
    table.add_column("parity")
    for name, timing in result.timings.items():
        latency = timing.latency(result.threads)
        is_old = name == layout["choice"]
        table.add_row(
            name,
            f"{recorded[name]:.1f}",
            f"{latency.median_us:.1f}",
            f"{latency.p90_us:.1f}",
            "" if is_old else spread(ratio(timing, result.timings[layout["choice"]])),
            _parity(result, name),
        )
    old, here = layout["measured_on"]["cpu"], machine.host()["cpu"]
    parts: list[RenderableType] = [table, Text(f"recorded on {old}; here {here}", "dim")]
    busy = machine.busy(result.load)
    return Group(*parts, *([Text(f"Note: {busy}", "yellow")] if busy else []))


def passed_over(result: Tuning) -> RenderableType:
    """Which candidates were faster than the choice, and why they are not it."""
    return Group(
        *(
            Text(f"{name} lost parity here: {len(report.failures)} checks failed", "yellow")
            for name, report in result.reports.items()
            if name != result.choice
        )
    )


def choice_line(result: Tuning) -> Text:
    """What the bundle's model is now."""
    layout, path = result.before.manifest.layout, result.before.path
    assert layout is not None
    if result.choice is None:
        return Text(f"PARITY LOST by every candidate, nothing was changed: {path}", "bold red")
    if result.choice == layout["choice"]:
        return Text(f"{result.choice} is the model, as before: {path}", "bold green")
    told = f"{result.choice} is the model now, {layout['choice']} was it before: {path}"
    return Text(told, "bold green")


def _parity(result: Tuning, name: str) -> Text:
    if name not in result.reports:
        return Text("not needed", "dim")
    passed = result.reports[name].verdict == "pass"
    return Text("pass", "green") if passed else Text("fail", "bold red")
