"""``tcn-inspect``: what a bundle or a network is, and what its answers depend on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from tcn_export.cli.common import Screen, command
from tcn_export.cli.network import network_options
from tcn_export.errors import UsageError


@command(
    "Exit code: 0, or 1 where the file cannot be read, 2 wrong usage, 4 a package is missing."
)
@click.argument(
    "path", metavar="BUNDLE|MODEL", required=False, type=click.Path(path_type=Path)
)
@network_options
@click.option(
    "--length",
    type=click.IntRange(min=1),
    help="Steps of a network's window.  [default: as trained, or as --input-shape]",
)
def main(screen: Screen, path: Path | None, **options: Any) -> int:
    """Print what BUNDLE (a folder) or MODEL (as tcn-export takes it) is.

    And what its answers depend on: the receptive field, from the graph and as measured,
    whether later steps are among it, and which steps every layer has to give for one answer.
    """
    from tcn_export.report import terminal
    from tcn_export.report.dependence import cone_drawing

    if path is not None and os.path.isdir(path):
        from tcn_export.bundle import load_bundle

        given = [name for name, value in options.items() if value is not None]
        if given:
            raise UsageError(
                f"--{given[0].replace('_', '-')} was given for the bundle {path}, which tells "
                "it itself. Leave it out."
            )
        bundle = load_bundle(path)
        entries = bundle.manifest.to_json()
        table = terminal.bundle_table(bundle)
    else:
        from tcn_export.inspection import describe_model
        from tcn_export.options import ExportOptions

        entries = describe_model(path, ExportOptions(**options), screen.progress())
        table = terminal.property_table(entries)
    screen.warnings(entries["dependence"])
    screen.result(lambda: entries, lambda: table, lambda: "", lambda: cone_drawing(entries))
    return 0
