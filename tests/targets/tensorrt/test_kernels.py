"""Which arithmetic an engine really uses, from both generations of the inspector's JSON."""

from __future__ import annotations

import json
from pathlib import Path

from tcn_export.targets.tensorrt.kernels import (
    Kernel,
    convolution_types,
    count_reformats,
    read_inspector,
    read_printed,
)

# Of TensorRT 10: the type is part of the format, weights are apart.
OLD = {
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to first",
            "LayerType": "Reformat",
            "Inputs": [{"Name": "x", "Format/Datatype": "Row major linear FP32"}],
            "Outputs": [
                {"Name": "x8", "Format/Datatype": "Four wide channel vectorized Int8"}
            ],
            "Metadata": "",
        },
        {
            "Name": "first + relu",
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "Inputs": [{"Name": "x8", "Format/Datatype": "Four wide channel vectorized Int8"}],
            "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP16 format"}],
            "Weights": {"Type": "Int8", "Count": 96},
            "Bias": {"Type": "Float", "Count": 8},
            "Metadata": "[ONNX Layer: block.0/Conv]\x1e[ONNX Layer: block.0/Relu]",
        },
        {
            "Name": "second",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "y", "Format/Datatype": "Row major linear FP16 format"}],
            "Outputs": [],
            "Weights": {"Type": "Half", "Count": 64},
            "Metadata": "[ONNX Layer: block.1/Conv]",
        },
    ],
    "Bindings": ["x", "y"],
}
# Of TensorRT 11: format and datatype apart, constants beside the inputs.
NEW = {
    "Layers": [
        {
            "Name": "block.0/Conv_myl0_3",
            "LayerType": "correlation",
            "Inputs": [{"Name": "a", "Format": "Channel major", "Datatype": "Int8"}],
            "Constants": [
                {"Name": "w", "Datatype": "Int8"},
                {"Name": "s", "Datatype": "Float"},
            ],
            "Outputs": [{"Name": "b", "Datatype": "Float"}],
            "Metadata": "[ONNX Layer: block.0/Conv]\x1f[ONNX Layer: x_DequantizeLinear]",
        },
        {
            "Name": "__myl_CorrAddRelu",
            "LayerType": "runtime_fusion",
            "Inputs": [{"Name": "b", "Datatype": "Half"}],
            "Constants": [{"Name": "w", "Datatype": "Half"}],
            "Outputs": [{"Name": "c", "Datatype": "Half"}],
            "Metadata": "[ONNX Layer: block.1/Conv][ONNX Layer: block.1/Relu]",
        },
        {
            "Name": "__myl_MulAdd",
            "LayerType": "kgen",
            "Inputs": [{"Name": "c", "Datatype": "Float"}],
            "Constants": [{"Name": "b", "Datatype": "Float"}],
            "Outputs": [],
            "Metadata": "[ONNX Layer: block.0/Conv]\x1f[ONNX Layer: block.2/Conv]",
        },
    ],
    "I/O Tensors": [{"Name": "x"}],
}
NAMES = ["block.0/Conv", "block.1/Conv", "block.2/Conv"]


def test_both_generations_say_the_same():
    for generation in (OLD, NEW):
        kernels = read_inspector(json.dumps(generation))
        assert convolution_types(kernels, NAMES) == {
            "block.0/Conv": "int8",
            "block.1/Conv": "float16",
            "block.2/Conv": "unknown",
        }


def test_an_account_of_full_tensorrt():
    """What TensorRT 8.6.0 told on an H200 of a Q/DQ graph of ours (`tools/tensorrt8.py`)."""
    kernels = read_inspector(Path(__file__).with_name("account_of_8_6.json").read_text())
    names = [f"blocks.{i}.body.conv1/Conv" for i in range(4)] + ["blocks.0.shortcut/Conv"]
    assert set(convolution_types(kernels, names).values()) == {"int8"}
    assert convolution_types(kernels, ["head/Gemm"]) == {"head/Gemm": "float32"}
    assert count_reformats(kernels) == 6


def test_reformats_are_counted():
    assert count_reformats(read_inspector(json.dumps(OLD))) == 1
    assert count_reformats(read_inspector(json.dumps(NEW))) == 0


def test_names_alone_tell_nothing():
    """Without detailed profiling verbosity an engine gives the names of its layers only."""
    assert read_inspector('{"Layers": ["first + relu", "second"], "Bindings": []}') == []


def test_integer_input_with_float_weights_is_no_integer_convolution():
    kernel = Kernel("k", "correlation", ("int8",), ("float32",), ("block.0/Conv",))
    assert convolution_types([kernel], NAMES[:1]) == {"block.0/Conv": "mixed"}


def test_the_printed_list():
    text = (
        "Layers:\nName: block.0/Conv_myl0_3, LayerType: correlation, Inputs: [ { Name: q, "
        "Dimensions: [-1,8,9,1], Datatype: Int8, Format: (NHWC) }], Constants: [ { Name: w, "
        "Datatype: Int8, Format: (NHWC) }, { Name: s, Datatype: Float }], Outputs: [ { Name: "
        "o, Datatype: Float }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: "
        "block.0/Conv]\x1f[ONNX Layer: w_DequantizeLinear]\n\nI/O Tensors:\n Name: x\n"
    )
    (kernel,) = read_printed(text)
    assert kernel.inputs == ("int8",)
    assert kernel.weights == ("int8", "float32")
    assert kernel.operators == ("block.0/Conv", "w_DequantizeLinear")
