"""Every rule of a dialect finds its planted violation, and names the node."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from support import TINY_LENGTH, make_source
from tcn_export.capture import capture
from tcn_export.progress import Silent
from tcn_export.quantize.calibration import calibrate
from tcn_export.quantize.dialects import ORT_ARM64, ORT_X86_AVX2, ORT_X86_VNNI, TENSORRT
from tcn_export.quantize.lint import check_dialect, violations
from tcn_export.quantize.qdq import quantize
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.plans import PLANS

DIALECTS = {d.name: d for d in (ORT_X86_VNNI, ORT_X86_AVX2, ORT_ARM64, TENSORRT)}
CONV = "blocks.0.body.conv1/Conv"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A Q/DQ graph in every dialect."""
    source = make_source(tmp_path_factory.mktemp("lint") / "m.pt")
    noise = np.random.default_rng(0).standard_normal((8, 3, TINY_LENGTH))
    x = (source.center[:, None] + source.spread[:, None] * noise).astype(np.float32)
    found = {}
    for dialect in DIALECTS.values():
        target, opset = ("trt", 18) if dialect is TENSORRT else ("onnx", 20)
        graph = run_plan(PLANS[target], capture(source, TINY_LENGTH, opset))
        ranges = calibrate(graph, x, "minmax", dialect, Silent())
        found[dialect.name] = quantize(graph, ranges, dialect)
    return found


def node(model, name):
    return next(n for n in model.graph if n.name == name)


def plant(value: ir.Value, change):
    array = value.const_value.numpy().copy()
    value.const_value = ir.tensor(np.asarray(change(array)), name=value.name)


def first(array, value):
    array.reshape(-1)[0] = value
    return array


def weight(model):
    return node(model, CONV).inputs[1].producer()


def bias(model):
    return node(model, CONV).inputs[2].producer()


def quantizer(model):
    return next(n for n in model.graph if n.op_type == "QuantizeLinear")


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_what_the_quantiser_writes_keeps_every_rule(dialect, made):
    assert violations(made[dialect.name].model, dialect) == []


PLANTED = {
    "the graph of another consumer": (ORT_ARM64, lambda m: None, "activations are uint8"),
    "a zero point that is not 0": (
        TENSORRT,
        lambda m: plant(quantizer(m).inputs[2], lambda a: a + np.int8(3)),
        "the zero point is 3, expected 0",
    ),
    "weights of another type": (
        ORT_X86_VNNI,
        lambda m: plant(weight(m).inputs[0], lambda a: a.view(np.uint8)),
        "weights are uint8, expected int8",
    ),
    "a zero point of weights": (
        ORT_X86_VNNI,
        lambda m: plant(weight(m).inputs[2], lambda a: first(a, 1)),
        "the zero point of the weights is not 0",
    ),
    "a weight of 8 bits": (
        ORT_X86_AVX2,
        lambda m: plant(weight(m).inputs[0], lambda a: first(a, -65)),
        "a weight is 65, expected at most 64",
    ),
    "a weight of -128": (
        ORT_ARM64,
        lambda m: plant(weight(m).inputs[0], lambda a: first(a, -128)),
        "a weight is 128, expected at most 127",
    ),
    "one scale for all channels": (
        ORT_X86_VNNI,
        lambda m: plant(weight(m).inputs[1], lambda a: a[:1]),
        "1 weight scales on axis 0, expected one per output channel",
    ),
    "another axis": (
        ORT_X86_VNNI,
        lambda m: weight(m).attributes.add(ir.AttrInt64("axis", 1)),
        "8 weight scales on axis 1, expected one per output channel",
    ),
    "a bias in other units": (
        ORT_X86_VNNI,
        lambda m: plant(bias(m).inputs[1], lambda a: first(a, 2 * a[0])),
        "the scale of the bias is not that of the input times that of the weights",
    ),
    "a bias of another type": (
        ORT_X86_VNNI,
        lambda m: plant(bias(m).inputs[0], lambda a: a.astype(np.int8)),
        "the bias is not int32",
    ),
    "a quantised bias": (
        TENSORRT,
        lambda m: node(m, CONV).replace_input_with(2, weight(m).outputs[0]),
        "the bias is quantised, expected float32",
    ),
    "a float operand": (
        ORT_X86_VNNI,
        lambda m: node(m, CONV).replace_input_with(0, m.graph.inputs[0]),
        "left in float32, though the dialect lists its operator",
    ),
    "a subnormal scale": (
        ORT_X86_VNNI,
        lambda m: plant(quantizer(m).inputs[1], lambda a: np.float32(1e-41)),
        "expected a normal number above 0",
    ),
    "an infinite scale": (
        ORT_X86_VNNI,
        lambda m: plant(weight(m).inputs[1], lambda a: first(a, np.inf)),
        "expected a normal number above 0",
    ),
    "newer operators": (
        ORT_X86_VNNI,
        lambda m: m.graph.opset_imports.update({"": 23}),
        "operator set 23, at most 20",
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_violation_is_named_with_its_node(planted, made):
    dialect, change, rule = PLANTED[planted]
    of = ORT_X86_VNNI if planted == "the graph of another consumer" else dialect
    model = made[of.name].model.clone()
    change(model)
    found = violations(model, dialect)
    assert any(rule in text for text in found), found
    names = {n.name for n in model.graph} | {"graph"}
    assert all(text.partition(": ")[0] in names for text in found)
    with pytest.raises(AssertionError, match=f"the graph is not {dialect.name}: "):
        check_dialect(model, dialect)


def test_what_stays_in_float_on_purpose_is_no_violation(made):
    model = made[ORT_X86_VNNI.name].model.clone()
    node(model, CONV).replace_input_with(0, model.graph.inputs[0])
    assert any(text.startswith(CONV) for text in violations(model, ORT_X86_VNNI))
    assert violations(model, ORT_X86_VNNI, {CONV}) == []
