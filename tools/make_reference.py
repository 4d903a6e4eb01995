"""Make the reference bundles in exported/reference again, and the picture in README.

    python tools/make_reference.py

Trains a small TCN on BasicMotions (smartwatch accelerometer and gyroscope, BSD-3, ships inside
aeon), exports it in float32 and int8, and draws what tcn-export said. The test suite verifies
the bundles on every machine; make them again only when a schema or the exporter changes what
they hold, and say so in the commit.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tcn_export import load_bundle
from tcn_export.parity.rows import ParityReport, Row
from tcn_export.report import terminal

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "exported" / "reference"
PICTURE = ROOT / ".github" / "demo.svg"
MOST_BYTES = 300_000
TRAIN = (
    "--arch tcn --head mean --widths 16 --levels 4 --convolutions 1 --epochs 40 --batch 8 "
    "--validation 0"
)


def main() -> None:
    """Train, export, check the size, draw."""
    with tempfile.TemporaryDirectory() as folder:
        model, data = Path(folder, "basic_motions.pt"), Path(folder, "basic_motions.npz")
        run("tcn-train", "BasicMotions", *TRAIN.split(), "--out", model, "--save-data", data)
        shutil.rmtree(REFERENCE, ignore_errors=True)
        for precision in ("float32", "int8"):
            options = f"--target onnx --precision {precision} --max-drop 15".split()
            run("tcn-export", model, *options, "--data", data, "--out", REFERENCE)
    size = sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file())
    print(f"{REFERENCE}: {size / 1000:.0f} KB")
    if size > MOST_BYTES:
        raise SystemExit(f"that is more than the {MOST_BYTES / 1000:.0f} KB to be committed")
    draw()


def run(program: str, *arguments: object) -> None:
    """Run one of our commands, as a user would."""
    subprocess.run([Path(sys.executable).with_name(program), *map(str, arguments)], check=True)


def draw() -> None:
    """Draw the result of the int8 export."""
    bundle = load_bundle(REFERENCE / "basic_motions-onnx-int8")
    rows = bundle.manifest.parity["rows"]
    report = ParityReport(tuple(Row(**row) for row in rows), bundle.manifest.waived)
    console = Console(
        record=True, width=140, file=io.StringIO(), markup=False, highlight=False
    )
    console.print(
        Text("$ tcn-export model.pt --target onnx --precision int8 --max-drop 15 --data ...")
    )
    console.print(terminal.bundle_table(bundle), "", terminal.parity_table(report), sep="\n")
    console.print(terminal.verdict_line(report, "exported/basic_motions-onnx-int8"))
    # The theme's web fonts would be fetched from elsewhere; any monospaced font will do.
    svg = re.sub(
        r"@font-face \{.*?\}\s*", "", console.export_svg(title="tcn-export"), flags=re.S
    )
    PICTURE.write_text(svg)


if __name__ == "__main__":
    main()
