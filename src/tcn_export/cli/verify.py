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
    "--model",
    type=click.Path(path_type=Path),
    metavar="ONNX",
    help="Judge this model in place of the bundle's: one that was changed by hand.",
)
@click.option("--locate", is_flag=True, help="Name the first layer that leaves its tolerance.")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a page with plots; needs the package jinja2.",
)
def main(
    screen: Screen,
    bundle: Path,
    data: Path | None,
    threads: int,
    model: Path | None,
    locate: bool,
    html: Path | None,
) -> int:
    """Check that BUNDLE computes on this machine what the eager model computed."""
    from tcn_export.bundle import load_bundle
    from tcn_export.locating import judged_bundle, locate_layer
    from tcn_export.report import layer_table, terminal
    from tcn_export.report.json import report_to_json
    from tcn_export.report.score_change import score_change
    from tcn_export.verification import verify

    if html is not None:
        from tcn_export.files import check_writable
        from tcn_export.report.html import check_available

        check_available()
        check_writable(html.parent)
    loaded = load_bundle(bundle)
    judged = judged_bundle(loaded, model, locate)
    if judged.manifest.target != loaded.manifest.target and screen.verbosity >= 0:
        click.echo("The graph is judged on the CPU, not as an engine.", err=True)
    report = verify(judged, data, threads, screen.progress())
    location = locate_layer(loaded, judged, report, screen.progress()) if locate else None
    layers = {} if location is None else location.to_json()
    path, is_long = str(model or bundle), screen.verbosity > 0
    screen.judged(report, judged.manifest, Path(path))
    if html is not None:
        from tcn_export.files import write_bytes
        from tcn_export.report.html import html_bytes

        write_bytes(html, html_bytes(judged, report, threads))
    screen.result(
        lambda: {"bundle": str(bundle), **report_to_json(report), **layers},
        lambda: terminal.parity_table(report, everything=is_long),
        *([lambda: score_change(report, is_long)] if report.scores else []),
        *(
            ()
            if location is None
            else (
                lambda: layer_table.layer_table(location, is_long),
                lambda: layer_table.location_lines(location, report.verdict == "pass"),
            )
        ),
        lambda: terminal.verdict_line(report, path),
    )
    if report.verdict != "pass":
        screen.failure(str(terminal.verdict_line(report, path)))
    return 0 if report.verdict == "pass" else PARITY_FAILED
