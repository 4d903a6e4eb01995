"""Device kits, untouched networks and a stateful graph, as `tensorrt8` runs them on a GPU.

    python tools/tensorrt8_kits.py DIR --checkpoint MODEL.pt WINDOWS.npz

The graphs are written down to operator set 17, the newest of TensorRT 8.6, and int8 weights as
float32 weights that are quantised, which is how 8.6 wants them: the same integers.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import helper, numpy_helper, version_converter

from tcn_export import ExportOptions, export
from tcn_export.kit.proof import KIT_MODEL
from tensorrt8 import OLD_MODEL, SHAPES, SIGNAL, STATEFUL, STEPS, STREAMS, UNTOUCHED

if TYPE_CHECKING:
    from tcn_export.targets.base import Precision

PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")
OLD_OPSET = 17


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
            write_old(ir.to_proto(ir.load(bundle / KIT_MODEL)), bundle / OLD_MODEL)
            print(bundle)
    for name, shape in SHAPES.items():
        write_untouched(models.stem, name, shape, folder / f"{name}-{UNTOUCHED}")
    write_stateful(folder)


def write_untouched(module: str, name: str, shape: tuple[int, int], path: Path) -> None:
    """Write a network as torch.onnx.export leaves it."""
    x = torch.zeros(1, *shape)
    torch.onnx.export(getattr(import_module(module), name)(), (x,), path, dynamo=True,
                      verbose=False, external_data=False, opset_version=18)  # fmt: skip
    write_old(ir.to_proto(ir.load(path)), path)


def write_stateful(folder: Path) -> None:
    """Write the stateful graph of the tests, a long signal, and what it gives for it."""
    stateful = import_module("targets.stateful")
    x = np.random.default_rng(0).standard_normal((STREAMS, stateful.CHANNELS, STEPS))
    x = x.astype(np.float32)
    np.savez(folder / SIGNAL, x=x, truth=stateful.whole(x))
    write_old(ir.to_proto(stateful.stateful_graph().model), folder / STATEFUL)


def write_old(model: Any, path: Path) -> None:
    """Write a model, an `onnx.ModelProto`, as TensorRT 8.6 reads it."""
    old = version_converter.convert_version(model, OLD_OPSET)
    old.ir_version = 8
    quantize_weights_in_the_graph(old.graph)
    for node in old.graph.node:  # what the converter leaves of newer reductions
        kept = [a for a in node.attribute if a.name != "noop_with_empty_axes"]
        del node.attribute[:]
        node.attribute.extend(kept)
    onnx.checker.check_model(old, full_check=True)
    path.write_bytes(old.SerializeToString())


def quantize_weights_in_the_graph(graph: Any) -> None:
    """Replace DequantizeLinear(integers) by the same of QuantizeLinear(integers * scale)."""
    held = {tensor.name: tensor for tensor in graph.initializer}
    nodes = list(graph.node)
    for node in nodes:
        if node.op_type != "DequantizeLinear" or node.input[0] not in held:
            continue
        weight, scale = (numpy_helper.to_array(held[name]) for name in node.input[:2])
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        along = [-1 if i == axis else 1 for i in range(weight.ndim)]
        real = weight.astype(np.float32) * (scale.reshape(along) if scale.ndim else scale)
        held[node.input[0]].CopyFrom(numpy_helper.from_array(real, node.input[0]))
        rounded = f"{node.input[0]}_rounded"
        position = list(graph.node).index(node)
        graph.node.insert(
            position,
            helper.make_node("QuantizeLinear", node.input, [rounded], rounded, axis=axis),
        )
        node.input[0] = rounded


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
