"""What a bundle of this machine answers on a processor without VNNI, emulated.

    python tools/without_vnni.py BUNDLE [--cpu Haswell]

Runs the golden inputs of an ONNX Runtime bundle under ``qemu-x86_64`` (Debian: qemu-user), so
with the kernels that ONNX Runtime has for that processor, and tells how far the answers are
from those here. What `quantization.saturation` of a manifest simulates, this really runs.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tcn_export import load_bundle
from tcn_export.parity.metrics import CLASS_AXIS, answers, max_abs_error, sqnr_db
from tcn_export.verification import read_golden

_THERE = """
import sys
import numpy as np
from tcn_export import load_bundle
from tcn_export.verification import read_golden

bundle = load_bundle(sys.argv[1])
runner = bundle.runner(threads=1)
for i, feed in enumerate(read_golden(bundle).feeds):
    np.savez(f"{sys.argv[2]}/{i}.npz", **runner.run(feed.inputs))
"""


def run_there(bundle: Path, cpu: str, folder: Path) -> None:
    """Run the golden inputs on an emulated processor, into one npz file for each feed."""
    qemu = shutil.which("qemu-x86_64")
    if qemu is None:
        sys.exit("qemu-x86_64 is not installed. On Debian: apt-get install qemu-user")
    line = [qemu, "-cpu", cpu, sys.executable, "-c", _THERE, str(bundle), str(folder)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"the run on an emulated {cpu} failed:\n{done.stderr}")


def main() -> None:
    """Compare answers here and there, feed by feed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--cpu", default="Haswell", help="any that qemu knows, without VNNI")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    runner = bundle.runner(threads=1)
    with tempfile.TemporaryDirectory(prefix="tcn-export-") as folder:
        run_there(arguments.bundle, arguments.cpu, Path(folder))
        for i, feed in enumerate(read_golden(bundle).feeds):
            here = runner.run(feed.inputs)
            with np.load(Path(folder) / f"{i}.npz") as there:
                for name, value in here.items():
                    error = max_abs_error(there[name], value)
                    noise = f"{sqnr_db(there[name], value):.1f} dB"
                    line = f"{feed.name}  {name}: max |error| {error:.3g}, {noise}"
                    if bundle.manifest.task == "classification" and value.ndim > CLASS_AXIS:
                        changed = answers(there[name]) != answers(value)
                        line += f", {int(changed.sum())} of {changed.size} answers changed"
                    print(line)


if __name__ == "__main__":
    main()
