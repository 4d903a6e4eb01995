"""What an accelerator cannot run is told before anything is built."""

from __future__ import annotations

import pytest

from rewrite.onnx_text import parse
from tcn_export.errors import UnsupportedModelError, UsageError
from tcn_export.rewrite.base import run
from tcn_export.rewrite.conv1d_to_conv2d import Conv1dToConv2d
from tcn_export.targets.tensorrt import dla
from tcn_export.targets.tensorrt.versions import VERSIONS

ONE_SHAPE = {"x": [[1, 4, 64]] * 3}
DILATED = """
agraph (float[n,4,64] x) => (float[n,4,1] y) <float[4,4,3] w = {%s}>
{
    near = Conv<kernel_shape = [3], dilations = [2], pads = [4, 0]>(x, w)
    relu = Relu(near)
    far = Conv<kernel_shape = [3], dilations = [16], pads = [32, 0]>(relu, w)
    y = ReduceMax<keepdims = 1>(far)
}
""" % ", ".join(["0.1"] * 48)  # noqa: UP031 - braces of ONNX text


@pytest.fixture(scope="module")
def wide():
    text = DILATED.replace("ReduceMax<keepdims = 1>(far)", "GlobalMaxPool(far)")
    return run(Conv1dToConv2d(), parse(text)).model


def test_one_spatial_axis_falls_back_and_says_what_to_do():
    text = DILATED.replace("ReduceMax<keepdims = 1>(far)", "GlobalMaxPool(far)")
    found = {f.node: f.message for f in dla.fallbacks(parse(text).model, "int8")}
    assert "Give --layout 2d" in found["near"]
    assert "relu" not in found


def test_limits_of_the_accelerator(wide):
    found = {f.node: f.message for f in dla.fallbacks(wide, "int8")}
    assert set(found) == {"far", "y"}
    assert "has pads [0, 32, 0, 0]; the accelerator takes 0 to 31" in found["far"]
    assert found["y"] == "is no layer of the accelerator"


def test_fallbacks_need_permission(wide):
    arguments = (wide, VERSIONS["11"], "int8", ONE_SHAPE)
    with pytest.raises(UnsupportedModelError, match=r"2 nodes .*`far`.*--gpu-fallback"):
        dla.check(*arguments, gpu_fallback=False)
    assert len(dla.check(*arguments, gpu_fallback=True)) == 2


def test_what_stays_in_float32_falls_back(wide):
    found = {f.node: f.message for f in dla.fallbacks(wide, "float16")}
    assert "computes in float32" in found["near"]
    assert "computes in float32" in found["relu"]


@pytest.mark.parametrize(
    ("version", "precision", "profiles", "message"),
    [
        ("10.16", "float16", ONE_SHAPE, "10.16 .* does not support the accelerator"),
        ("rtx", "float16", ONE_SHAPE, "rtx .* does not support the accelerator"),
        ("10.3", "float32", ONE_SHAPE, "computes in float16 and int8 only"),
        ("10.3", "int8", ONE_SHAPE, "under TensorRT 10.3 takes no Q/DQ nodes"),
        ("11", "int8", {"x": [[1, 4, 64], [1, 4, 64], [8, 4, 64]]}, "--trt-batch 1"),
    ],
)
def test_what_excludes_the_accelerator(wide, version, precision, profiles, message):
    with pytest.raises(UsageError, match=message):
        dla.check(wide, VERSIONS[version], precision, profiles, gpu_fallback=True)
