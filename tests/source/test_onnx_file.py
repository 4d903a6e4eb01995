"""ONNX files: what is found out about them, and what is refused with its reason."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from onnx_texts import BODY, HEAD, MEAN, WEIGHTS, build, write
from tcn_export.errors import UnsupportedModelError, UsageError
from tcn_export.source.base import Told
from tcn_export.source.onnx_file import load_onnx
from tcn_export.source.reading import read_source


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_becomes_a_source_that_runs_in_both_precisions():
    path = write(MEAN)
    source = read_source(path, Told())
    assert (source.name, source.kind, source.path) == ("own", "onnx", path)
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.signature.inputs[0].name == "x"
    assert source.signature.inputs[0].shape == ("batch", 3, 12)
    assert source.signature.outputs[0].name == "logits"
    assert source.signature.outputs[0].shape == ("batch", 4)
    assert (source.length, source.classes, source.only_single) == (
        12,
        ("0", "1", "2", "3"),
        "",
    )
    assert source.parameters == 4 * 3 * 3 + 4
    x = torch.randn(2, 3, 12).double()
    w, b = (torch.from_numpy(WEIGHTS[name]).double() for name in "wb")
    padded = torch.nn.functional.pad(x, (2, 0))
    want = torch.nn.functional.conv1d(padded, w, b).relu().mean(-1)
    torch.testing.assert_close(source.module.double()(x), want, rtol=1e-13, atol=1e-13)


SWAP = "s = Transpose<perm=[0, 2, 1]>(x) "
FREE = "(float[N, C, L] x) => (float[N, 4] logits)"
LAYOUTS = {
    "channels first": (MEAN, Told(), "NCL", 3, 12),
    "steps first, by the first convolution": (
        (f"(float[N, 12, 3] x) => (float[N, 4] logits) {{ {SWAP}t = Tanh(s) "
        f"{BODY.replace('(x,', '(t,')} }}"), Told(), "NLC", 3, 12,
    ),
    "steps first, as told": (
        ("(float[N, 12, 3] x) => (float[N, 12] logits) { logits = ReduceMean<keepdims=0>(x, "
        "axes) }"), Told(layout="NLC"), "NLC", 3, 12,
    ),
    "steps first, by the sizes": (
        ("(float[N, 12, 3] x) => (float[N, 12] logits) { logits = ReduceMean<keepdims=0>(x, "
        "axes) }"), Told(input_shape=(3, 12)), "NLC", 3, 12,
    ),
    "swapped and back": (
        (f"(float[N, 3, 12] x) => (float[N, 4] logits) {{ {SWAP}"
        f"t = Transpose<perm=[0, 2, 1]>(s) {BODY.replace('(x,', '(t,')} }}"),
        Told(), "NCL", 3, 12,
    ),
    "open, as told": (f"{FREE} {{ {BODY} }}", Told(input_shape=(3, 24)), "NCL", 3, 24),
    "open length": (
        f"{FREE.replace('C', '3')} {{ {BODY} }}", Told(length=7), "NCL", 3, 7,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYOUTS)
def test_channels_and_steps_are_told_apart(case):
    text, told, layout, channels, steps = LAYOUTS[case]
    source = load_onnx(write(text), told)
    open_ended = "open" in case
    assert source.signature.inputs[0].shape == (
        "batch", channels, "length" if open_ended else steps,
    )  # fmt: skip
    assert source.length == steps
    assert any("takes (batch, steps, channels)" in n for n in source.notes) == (
        layout == "NLC"
    )
    with torch.no_grad():
        assert source.module(torch.randn(2, channels, steps)).shape[0] == 2


CONTRADICTIONS = {
    "other channels": (MEAN, Told(input_shape=(9, 12)), "takes 3 channels, and --input-shape"),
    "other steps": (MEAN, Told(input_shape=(3, 24)), "takes 12 steps, and --input-shape"),
    "other length": (MEAN, Told(length=24), "windows of 12 steps, and --length asks"),
    "any length": (MEAN, Told(is_dynamic=True), "--length asks for any. Export it again"),
    "open channels": (f"{FREE} {{ {BODY} }}", Told(), "leaves its channels open .`C`.. Give"),
    "open steps": (
        f"{FREE.replace('C', '3')} {{ {BODY} }}", Told(), "leaves the length .*`L`.*shape 3,L",
    ),
    "another answer": (MEAN, Told(answer="scores"), "answers with logits. Name one of these"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_was_told_must_fit_the_file(case):
    text, told, message = CONTRADICTIONS[case]
    with pytest.raises(UsageError, match=message):
        load_onnx(write(text), told)


SEVERAL = (
    "(float[N, 3, 12] x) => (float[N, 4, 12] h, float[N, 4] scores) "
    "{ h = Conv<pads=[2, 0]>(x, w, b) scores = ReduceMean<keepdims=0>(h, axes) }"
)


@pytest.mark.parametrize(("answer", "names"), [(None, ["h", "scores"]), ("scores", None)])
def test_several_outputs_keep_their_names_the_answer_first(answer, names):
    source = load_onnx(write(SEVERAL), Told(answer=answer))
    assert [s.name for s in source.signature.outputs] == (names or ["scores", "h"])


RESHAPED = (
    "(float[1, 3, 12] x) => (float[1, 48] y) <int64[2] to = {1, -1}> "
    "{ h = Conv<pads=[2, 0]>(x, w, b) y = Reshape(h, to) }"
)
JOINED = (
    "(float[1, 3, 12] x) => (float[1, 4, 12] y) <float[1, 3, 2] z = {0, 0, 0, 0, 0, 0}> "
    "{ p = Concat<axis=2>(z, x) y = Conv(p, w, b) }"
)
MIXED = (
    "(float[1, 3, 12] x) => (float[1, 3, 12] y) <int64[1] first = {0}> "
    "{ m = ReduceMean<keepdims=1>(x, first) y = Sub(x, m) }"
)


def test_an_axis_that_no_convolution_tells_is_asked_for():
    path = write(
        "(float[N, 12, 12] x) => (float[N, 12] y) { s = Softmax(x)  "
        "y = ReduceMean<keepdims=0>(s, axes) }"
    )
    with pytest.raises(UsageError, match=r"does not show which axis .*--input-layout NCL"):
        load_onnx(path, Told())
    assert load_onnx(path, Told(layout="NLC")).signature.inputs[0].shape[1] == 12


@pytest.mark.filterwarnings("ignore")
def test_a_batch_of_one_in_the_reshapes_of_the_exporter_is_opened():
    net = torch.nn.Sequential(
        torch.nn.Conv1d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(40, 5)
    ).eval()
    x = torch.zeros(1, 3, 12)
    torch.onnx.export(net, (x,), "own.onnx", dynamo=True, verbose=False)
    source = load_onnx(Path("own.onnx"), Told())
    x = torch.randn(3, 3, 12)
    with torch.no_grad():
        torch.testing.assert_close(source.module(x), net(x), rtol=1e-5, atol=1e-5)


def test_a_fixed_batch_is_opened_where_windows_do_not_mix():
    source = load_onnx(write(RESHAPED), Told())
    assert source.notes == ("the file's batch of 1 was opened; windows do not mix",)
    assert source.signature.outputs[0].shape == ("batch", 48)
    assert source.module(torch.randn(5, 3, 12)).shape == (5, 48)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            JOINED,
            "(?s)on torch.float32 of the shape .3, 3, 12.*export it again with a dynamic",
        ),
        (MIXED, r"(?s)otherwise when there are others.*dynamic_axes=\{'x': \{0: 'batch'\}\}"),
    ],
)
def test_a_fixed_batch_that_holds_the_network_together_is_refused(text, message):
    with pytest.raises(UnsupportedModelError, match=message):
        load_onnx(write(text), Told(layout="NCL"))


REFUSED = {
    "two inputs": (
        ("(float[N, 3, 12] x, float[N, 3, 12] mask) => (float[N, 3, 12] y) "
        "{ y = Mul(x, mask) }"),
        "takes 2 inputs .`x`, `mask`.; expected one signal",
    ),
    "no input": ("() => (float[4] y) <float[4] c = {1, 2, 3, 4}> { y = Relu(c) }", "takes 0"),
    "four axes": (
        "(float[N, 1, 3, 12] x) => (float[N, 1, 3, 12] y) { y = Relu(x) }",
        r"has the shape \(N, 1, 3, 12\); expected \(batch, channels, steps\)",
    ),
    "integers in": ("(int64[N, 3, 12] x) => (int64[N, 3, 12] y) { y = Neg(x) }", "INT64"),
    "double": ("(double[N, 3, 12] x) => (double[N, 3, 12] y) { y = Neg(x) }", "is DOUBLE"),
    "class indices": (
        "(float[N, 3, 12] x) => (int64[N, 12] y) { y = ArgMax<axis=1, keepdims=0>(x) }",
        "output `y` .* is INT64; expected FLOAT. .* without ArgMax",
    ),
    "half inside": (
        f"{HEAD} {{ h = Cast<to=10>(x) y = Cast<to=1>(h) }}",
        r"\(Cast\) in .* rounds to float16",
    ),
    "half weights": (
        f"{HEAD} <float16[1] c = {{1}}> {{ k = Cast<to=1>(c) y = Mul(x, k) }}",
        "`c` .* is float16",
    ),
    "quantised": (
        (f"{HEAD} <float s = {{0.1}}, uint8 z = {{0}}> {{ q = QuantizeLinear(x, s, z) "
        "y = DequantizeLinear(q, s, z) }"),
        r"\(QuantizeLinear\) .* is quantised already.*int8",
    ),
    "chance": (f"{HEAD} {{ r = RandomNormalLike(x) y = Add(x, r) }}", "draws random numbers"),
    "dropout in training": (
        f"{HEAD} <float r = {{0.5}}, bool t = {{1}}> {{ y = Dropout(x, r, t) }}",
        r"\(Dropout\) .* is in training mode. Call model.eval\(\)",
    ),
    "batch norm in training": (
        (f"{HEAD} <float[3] s = {{1, 1, 1}}> {{ y, m, v = "
        "BatchNormalization<training_mode=1>(x, s, s, s, s) }"), "is in training mode",
    ),
    "control flow": (
        (f"{HEAD} <bool c = {{1}}> {{ y = If<then_branch = g1 () => (float[N, 3, 12] a) "
        "{ a = Relu(x) }, else_branch = g2 () => (float[N, 3, 12] b) { b = Neg(x) }>(c) }"),
        r"\(If\) .* is control flow",
    ),
    "depends on the batch": (
        "(float[N, 3, 12] x) => (float[M] y) <int64[1] all = {-1}> { y = Reshape(x, all) }",
        r"with the shape \(36,\)",
    ),
    "infinite": (
        f"{HEAD} <float z = {{0}}> {{ y = Div(x, z) }}", "values that .* are NaN or infinite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_models_that_cannot_be_exported_are_refused_with_the_way_out(case):
    text, message = REFUSED[case]
    with pytest.raises(UnsupportedModelError, match=f"(?s){message}"):
        load_onnx(write(text), Told(layout="NCL"))


def test_dropout_that_is_switched_off_is_none():
    text = f"{HEAD} <float r = {{0.5}}, bool t = {{0}}> {{ y = Dropout(x, r, t) }}"
    assert load_onnx(write(text), Told(layout="NCL")).only_single == ""


def test_operators_of_a_runtime_are_refused_by_name():
    model = build(f"{HEAD} {{ y = com.microsoft.Gelu(x) }}", more=', "com.microsoft" : 1')
    with pytest.raises(
        UnsupportedModelError, match=r"of com\.microsoft, not of standard ONNX"
    ):
        load_onnx(write(model), Told())


def test_very_old_operator_sets_are_refused():
    model = build(f"{HEAD} {{ y = Relu(x) }}", opset=6)
    with pytest.raises(UnsupportedModelError, match="operator set 6; expected 7 or newer"):
        load_onnx(write(model), Told())


def test_constants_that_are_nodes_are_weights():
    text = (
        f"{HEAD} {{ c = Constant<value_floats=[0.5, 1.5, 2.5]>() t = Constant<value = "
        "float[1, 3, 1] {1, 2, 3}>() z = Mul(x, t) y = Add(z, s) "
        "s = Constant<value_float=0.25>() }"
    )
    nodes = build(text).graph.node
    model = build(text)
    del model.graph.node[:]
    model.graph.node.extend([
        *(n for n in nodes if not n.input),
        *(n for n in nodes if n.input),
    ])
    source = load_onnx(write(model), Told(layout="NCL"))
    assert source.parameters == 3 + 3 + 1
