"""Device kits, untouched networks and a stateful graph, as `tensorrt8` runs them on a GPU.

python tools/tensorrt8_kits.py DIR --checkpoint MODEL.pt WINDOWS.npz
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import torch

from tcn_export import ExportOptions, export
from tcn_export.kit.proof import KIT_MODEL
from tensorrt8 import OLD_MODEL, SHAPES, SIGNAL, STATEFUL, STEPS, STREAMS, UNTOUCHED
from write_for_tensorrt8 import write_old

if TYPE_CHECKING:
    from tcn_export.targets.base import Precision

PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")


def prepare(folder: Path, models: Path, checkpoints: list[list[str]]) -> None:
    """Export the kits, the untouched networks, and a stateful graph with a long signal."""
    sys.path[:0] = [str(models.resolve().parent), str(Path(__file__).parents[1] / "tests")]
    wanted: list[tuple[str | None, dict[str, Any]]] = [
        (None, {"factory": f"{models.stem}:{name}", "input_shape": shape, "data": "noise"})
        for name, shape in SHAPES.items()
    ]
    wanted += [(model, {"data": data}) for model, data in checkpoints]
    for model, given in wanted:
        for precision in PRECISIONS:
            options = ExportOptions(
                **given, target="trt", precision=precision, out=folder, bundle_only=True,
                overwrite=True,
            )  # fmt: skip
            bundle = export(model, options).bundle.path
            write_old(ir.load(bundle / KIT_MODEL), bundle / OLD_MODEL)
            print(bundle)
    for name, shape in SHAPES.items():
        write_untouched(models.stem, name, shape, folder / f"{name}-{UNTOUCHED}")
    write_stateful(folder)


def write_untouched(module: str, name: str, shape: tuple[int, int], path: Path) -> None:
    """Write a network as torch.onnx.export leaves it."""
    x = torch.zeros(1, *shape)
    torch.onnx.export(getattr(import_module(module), name)(), (x,), path, dynamo=True,
                      verbose=False, external_data=False, opset_version=18)  # fmt: skip
    write_old(ir.load(path), path)


def write_stateful(folder: Path) -> None:
    """Write the stateful graph of the tests, a long signal, and what it gives for it."""
    stateful = import_module("targets.stateful")
    x = np.random.default_rng(0).standard_normal((STREAMS, stateful.CHANNELS, STEPS))
    x = x.astype(np.float32)
    np.savez(folder / SIGNAL, x=x, truth=stateful.whole(x))
    write_old(stateful.stateful_graph().model, folder / STATEFUL)


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    shared = Path(__file__).resolve().parents[2] / "shared" / "bench" / "user_models.py"
    parser.add_argument("--models", type=Path, default=shared)
    parser.add_argument("--checkpoint", nargs=2, action="append", default=[],
                        metavar=("MODEL", "DATA"))  # fmt: skip
    options = parser.parse_args()
    prepare(options.folder, options.models, options.checkpoint)


if __name__ == "__main__":
    main()
