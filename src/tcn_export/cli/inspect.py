"""``tcn-inspect``: what a bundle or a checkpoint is."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tcn_export.cli.common import Screen, command


@command(
    "Exit code: 0, or 1 where the file cannot be read, 2 wrong usage, 4 a package is missing."
)
@click.argument("path", metavar="BUNDLE|MODEL", type=click.Path(path_type=Path))
def main(screen: Screen, path: Path) -> int:
    """Print what BUNDLE (a folder) or MODEL (a checkpoint) is."""
    from tcn_export.report import terminal

    if os.path.isdir(path):
        from tcn_export.bundle import load_bundle

        bundle = load_bundle(path)
        screen.result(bundle.manifest.to_json, lambda: terminal.bundle_table(bundle))
    else:
        from tcn_export.inspection import describe_model

        properties = describe_model(path)
        screen.result(lambda: properties, lambda: terminal.property_table(properties))
    return 0
