"""``tcn-verify``: a bundle is run again and judged; needs no PyTorch."""

from __future__ import annotations

from pathlib import Path

import click

from tcn_export.cli.common import Screen, command
from tcn_export.errors import PARITY_FAILED


@command(
    "Exit code: 0 the bundle still computes the same, 1 it or the data cannot be used, 2 "
    "wrong usage, 3 parity was lost, or not decidable with so few windows, 4 the target "
    "cannot run here.",
    is_gate=True,
)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="NPZ",
    help="Also judge these windows: those of the export one by one, of others the score.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Threads of the runtime; 0 takes all cores.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a page with plots; needs the package jinja2.",
)
def main(
    screen: Screen, bundle: Path, data: Path | None, threads: int, html: Path | None
) -> int:
    """Check that BUNDLE computes on this machine what the eager model computed."""
    from tcn_export.bundle import load_bundle
    from tcn_export.verification import verify

    if html is not None:
        from tcn_export.files import check_writable
        from tcn_export.report.html import check_available

        check_available()
        check_writable(html.parent)
    loaded = load_bundle(bundle)
    report = verify(loaded, data, threads, screen.progress())
    screen.judged(report, loaded.manifest, bundle)
    if html is not None:
        from tcn_export.files import write_bytes
        from tcn_export.report.html import html_bytes

        write_bytes(html, html_bytes(loaded, report, threads))
    from tcn_export.report import terminal
    from tcn_export.report.json import report_to_json
    from tcn_export.report.score_change import score_change

    screen.result(
        lambda: {"bundle": str(bundle), **report_to_json(report)},
        lambda: terminal.parity_table(report, everything=screen.verbosity > 0),
        *([lambda: score_change(report, screen.verbosity > 0)] if report.scores else []),
        lambda: terminal.verdict_line(report, str(bundle)),
    )
    if report.verdict != "pass":
        screen.failure(str(terminal.verdict_line(report, str(bundle))))
    return 0 if report.verdict == "pass" else PARITY_FAILED
