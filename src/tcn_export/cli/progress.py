"""Progress on stderr: a bar on a terminal, one line per stage elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from tcn_export.progress import Advance


class RichProgress:
    """One bar per stage, gone when the stage ends."""

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Advance]:
        """Show a bar until the block ends."""
        columns = [TextColumn("{task.description}", markup=False), BarColumn()]
        if total is not None:
            columns += [MofNCompleteColumn(), TimeRemainingColumn()]
        with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(title, total=total)

            def advance(units: int = 1, /) -> None:
                bars.advance(task, units)

            yield advance


class LineProgress:
    """One plain line when a stage ends, for logs."""

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Advance]:
        """Print the stage with its seconds when the block ends."""
        start, done = time.perf_counter(), 0

        def advance(units: int = 1, /) -> None:
            nonlocal done
            done += units

        yield advance
        amount = f" {done}/{total}" if total is not None else ""
        click.echo(f"{title}{amount}: {time.perf_counter() - start:.1f} s", err=True)
