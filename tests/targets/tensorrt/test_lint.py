"""Every form that TensorRT refuses is named by our lint before NVIDIA's parser sees it."""

from __future__ import annotations

import re

import onnx
import onnx_ir as ir
import pytest

from tcn_export.errors import UnsupportedModelError
from tcn_export.targets.tensorrt.builder import BuildError
from tcn_export.targets.tensorrt.lint import lint, require_clean
from tcn_export.targets.tensorrt.request import BuildRequest
from tcn_export.targets.tensorrt.versions import VERSIONS
from tcn_export.targets.tensorrt.worker import build_in_child

HALF = 0x2E66  # 0.1 as the text of ONNX wants it: the bits
HALVES = f"{HALF}, {HALF}, {HALF}"
W = ", ".join("1" for _ in range(12))
PROFILES = {"x": [[1, 4, 16], [1, 4, 16], [8, 4, 16]]}
GOOD = f"""
<ir_version: 10, opset_import: ["" : 18]>
agraph (float[n,4,16] x) => (float[n,3,16] y)
<float s = {{0.1}}, int8 z = {{0}}, int8[3,4,1] w = {{{W}}},
 float[3] sw = {{0.1, 0.2, 0.3}}, int8[3] zw = {{0, 0, 0}}, float[3] b = {{0.1, 0.2, 0.3}}>
{{
    xq = QuantizeLinear(x, s, z)
    xd = DequantizeLinear(xq, s, z)
    wd = DequantizeLinear<axis = 0>(w, sw, zw)
    y = Conv<kernel_shape = [1]>(xd, wd, b)
}}
"""
PLAIN = f"""
<ir_version: 10, opset_import: ["" : 18]>
agraph (float[n,4,16] x) => (float[n,3,16] y) <float[3,4,1] w = {{{W}}}>
{{ y = Conv<kernel_shape = [1]>(x, w) }}
"""
QLINEAR = f"""
<ir_version: 10, opset_import: ["" : 18]>
agraph (int8[n,4,16] x) => (int8[n,3,16] y)
<float s = {{0.1}}, int8 z = {{0}}, int8[3,4,1] w = {{{W}}}>
{{ y = QLinearConv<kernel_shape = [1]>(x, s, z, w, s, z, s, z) }}
"""
DYNAMIC_QUANTIZE = """
<ir_version: 10, opset_import: ["" : 18]>
agraph (float[n,4,16] x) => (float[n,4,16] y)
{
    q, s, z = DynamicQuantizeLinear(x)
    y = DequantizeLinear(q, s, z)
}
"""


def read(text: str) -> ir.Model:
    model = onnx.parser.parse_model(text)
    for node in model.graph.node:
        node.name = f"node_{node.output[0]}"
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model)
    return ir.from_proto(model)


def messages(text: str, version: str = "11", profiles=None) -> list[str]:
    found = lint(read(text), VERSIONS[version], PROFILES if profiles is None else profiles)
    return [str(finding) for finding in found]


def in_half(text: str) -> str:
    return text.replace("float[n,4,16] x", "float16[n,4,16] x").replace(
        "float[n,3,16] y", "float16[n,3,16] y"
    )


# What is refused by whom: our lint always; NVIDIA's parser or builder in the first table.
REFUSED_BY_NVIDIA = {
    "activation zero point": (
        GOOD.replace("int8 z = {0}", "int8 z = {3}"),
        "QuantizeLinear `node_xq` has the zero point 3; TensorRT takes 0",
    ),
    "uint8": (
        GOOD.replace("int8 z = {0}", "uint8 z = {128}"),
        "QuantizeLinear `node_xq` uses uint8; TensorRT takes signed int8",
    ),
    "int32 bias": (
        GOOD.replace("float[3] b = {0.1, 0.2, 0.3}", "int32[3] bq = {1, 2, 3}").replace(
            "y = Conv", "b = DequantizeLinear<axis = 0>(bq, sw)\n    y = Conv"
        ),
        "DequantizeLinear `node_b` dequantises an int32 bias",
    ),
    "QLinearConv": (QLINEAR, "QLinearConv `node_y` has no kernel in TensorRT"),
    "DynamicQuantizeLinear": (
        DYNAMIC_QUANTIZE,
        "DynamicQuantizeLinear `node_q` has no kernel in TensorRT",
    ),
    "int16": (
        GOOD.replace('"" : 18', '"" : 21').replace("int8 z = {0}", "int16 z = {0}"),
        "QuantizeLinear `node_xq` uses INT16; TensorRT takes int8",
    ),
    "scale 0": (
        GOOD.replace("float s = {0.1}", "float s = {0}"),
        "QuantizeLinear `node_xq` has a scale that is not positive",
    ),
    "half input with float weights": (
        # The ONNX checker refuses it too; a graph changed by hand may still hold it.
        PLAIN.replace("y = Conv", "h = Cast<to = 10>(x)\n y = Conv").replace(
            "(x, w)", "(h, w)"
        ),
        "Conv `node_y` mixes FLOAT and FLOAT16; all inputs must be of one type",
    ),
}
REFUSED_BY_US = {
    "scale per channel of an activation": (
        GOOD.replace("float s = {0.1}", "float[4] s = {1, 1, 1, 1}").replace(
            "int8 z = {0}", "int8[4] z = {0, 0, 0, 0}"
        ),
        "QuantizeLinear `node_xq` has one scale per channel of an activation",
    ),
    "scale computed at run time": (
        GOOD.replace("float s = {0.1}", "float s0 = {0.1}").replace(
            "xq = Quant", "s = Abs(s0)\n    xq = Quant"
        ),
        "QuantizeLinear `node_xq` computes its scale at run time",
    ),
    "weights scaled along their inputs": (
        GOOD.replace("DequantizeLinear<axis = 0>", "DequantizeLinear<axis = 1>")
        .replace("float[3] sw = {0.1, 0.2, 0.3}", "float[4] sw = {0.1, 0.2, 0.3, 0.4}")
        .replace("int8[3] zw = {0, 0, 0}", "int8[4] zw = {0, 0, 0, 0}"),
        "scales the weights of `node_y` along axis 1; TensorRT takes the output channels",
    ),
    "scale in half precision": (
        in_half(GOOD)
        .replace('"" : 18', '"" : 19')
        .replace("float s = {0.1}", f"float16 s = {{{HALF}}}")
        .replace("float[3] sw = {0.1, 0.2, 0.3}", f"float16[3] sw = {{{HALVES}}}")
        .replace("float[3] b = {0.1, 0.2, 0.3}", f"float16[3] b = {{{HALVES}}}"),
        "has a scale in float16; float32 is what builds on every device",
    ),
    "quantised on one side": (
        GOOD.replace("wd = DequantizeLinear<axis = 0>(w, sw, zw)", "wd = Cast<to = 1>(w)"),
        "Conv `node_y` is quantised on one side only: its weights are float",
    ),
    "a pad between": (
        GOOD.replace("xq = QuantizeLinear(x,", "xp = Pad(x, p)\n xq = QuantizeLinear(xp,")
        .replace("int8 z = {0}", "int8 z = {0}, int64[6] p = {0, 0, 0, 0, 0, 0}"),
        "Conv `node_y` reads `node_xp` through Q/DQ",
    ),
    "another domain": (
        PLAIN.replace('"" : 18', '"" : 18, "com.microsoft" : 1').replace(
            "y = Conv", "h = com.microsoft.QuickGelu(x)\n y = Conv"
        ),
        "QuickGelu `node_h` is of the domain com.microsoft, which only ONNX Runtime knows",
    ),
}  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_the_dialect_itself_is_clean(version):
    assert messages(GOOD, version) == []
    assert messages(PLAIN, version) == []


@pytest.mark.parametrize("form", {**REFUSED_BY_NVIDIA, **REFUSED_BY_US})
def test_lint_names_the_node(form):
    text, message = (REFUSED_BY_NVIDIA | REFUSED_BY_US)[form]
    found = messages(text)
    assert any(message in line for line in found), found


@pytest.mark.parametrize("form", REFUSED_BY_NVIDIA)
def test_nvidia_refuses_it_as_well(form, rtx, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(ir.to_proto(read(REFUSED_BY_NVIDIA[form][0])), path)
    with pytest.raises(BuildError):
        build_in_child(BuildRequest(str(path), rtx, PROFILES, 2**26), lambda _: None)


def test_nvidia_takes_what_the_lint_lets_through(rtx, tmp_path):
    for name, text in (("good", GOOD), ("plain", PLAIN)):
        path = tmp_path / f"{name}.onnx"
        onnx.save(ir.to_proto(read(text)), path)
        built = build_in_child(BuildRequest(str(path), rtx, PROFILES, 2**26), lambda _: None)
        assert len(built.plan) > 1000


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        ({}, "the input `x` has the shape .* and no profile says how large it can be"),
        ({"x": [[1, 4, 16]] * 2 + [[8, 5, 16]]}, "which its profile .* does not fit"),
        ({"x": [[1, 4], [1, 4], [8, 4]]}, "does not fit"),
        ({"x": [[4, 4, 16], [1, 4, 16], [8, 4, 16]]}, "does not fit"),
    ],
)
def test_shapes_without_a_fitting_profile(profiles, message):
    (found,) = messages(PLAIN, profiles=profiles)
    assert re.search(message, found)


@pytest.mark.parametrize(("version", "newest"), [("10.3", 20), ("11", 25), ("rtx", 26)])
def test_operator_sets_that_a_parser_does_not_know(version, newest):
    assert messages(PLAIN.replace('"" : 18', f'"" : {newest}'), version) == []
    (found,) = messages(PLAIN.replace('"" : 18', f'"" : {newest + 1}'), version)
    assert f"is of operator set {newest + 1}" in found
    assert f"--opset {newest}" in found


def test_all_findings_become_one_error_that_names_version_and_nodes():
    model = read(GOOD.replace("int8 z = {0}", "int8 z = {3}"))
    version = VERSIONS["10.3"]
    with pytest.raises(UnsupportedModelError, match=r"TensorRT 10.3 \(JetPack 6.*`node_xd`"):
        require_clean(lint(model, version, PROFILES), version)
    require_clean((), version)
