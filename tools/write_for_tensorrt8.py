"""Write the graph of a device kit for TensorRT 8, which JetPack 5 and 6.0 have.

    python tools/write_for_tensorrt8.py MODEL.onnx OLD.onnx

The operators of set 17, and int8 weights as float32 weights that are quantised in the graph:
the same integers. TensorRT 8.6.0 built what this writes; the kit's own file was not tried.
Nothing judges the result: compare what it answers with the kit's golden.npz.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper, version_converter

OLD_OPSET, OLD_IR_VERSION = 17, 8


def write_old(model: ir.Model, path: Path) -> None:
    """Write a model as TensorRT 8 reads it."""
    old = version_converter.convert_version(ir.to_proto(model), OLD_OPSET)
    old.ir_version = OLD_IR_VERSION
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
    parser.add_argument("model", type=Path)
    parser.add_argument("old", type=Path)
    options = parser.parse_args()
    write_old(ir.load(options.model), options.old)


if __name__ == "__main__":
    main()
