"""ONNX files: what is found out about them, and what is refused with its reason."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from tcn_export.errors import CheckpointError, ExportError, UnsupportedModelError, UsageError
from tcn_export.source.base import Told
from tcn_export.source.onnx_file import load_onnx
from tcn_export.source.reading import read_source

RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.standard_normal((4, 3, 3)).astype(np.float32),
    "b": RNG.standard_normal(4).astype(np.float32),
    "axes": np.array([2]),
}
BODY = "h = Conv<pads=[2, 0]>(x, w, b)  r = Relu(h)  logits = ReduceMean<keepdims=0>(r, axes)"
MEAN = f"(float[batch, 3, 12] x) => (float[batch, 4] logits) {{ {BODY} }}"


def build(text: str, weights=WEIGHTS, opset: int = 20, more: str = "") -> onnx.ModelProto:
    """A model from ONNX text without its header; only the weights that it reads are kept."""
    imports = f'"" : {opset}{more}'
    model = parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> g {text}")
    read = {name for node in model.graph.node for name in node.input}
    read |= {
        name for function in model.functions for node in function.node for name in node.input
    }
    for name, value in weights.items():
        if name in read:
            model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model


def write(model: onnx.ModelProto | str, path: Path = Path("own.onnx")) -> Path:
    made = build(model) if isinstance(model, str) else model
    path.write_bytes(made.SerializeToString())
    return path


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
        (f"(float[N, 3, 12] x) => (float[N, 4] logits) {{ {SWAP}t = Transpose<perm=[0, 2, 1]>(s) "
        f"{BODY.replace('(x,', '(t,')} }}"), Told(), "NCL", 3, 12,
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
    "other channels": (MEAN, Told(input_shape=(9, 12)), "takes 3 channels, and --input-shape sa"),
    "other steps": (MEAN, Told(input_shape=(3, 24)), "takes 12 steps, and --input-shape says 24"),
    "other length": (MEAN, Told(length=24), "for windows of 12 steps, and --length asks for 24"),
    "any length": (MEAN, Told(is_dynamic=True), "--length asks for any. Export it again"),
    "open channels": (f"{FREE} {{ {BODY} }}", Told(), "leaves its channels open .`C`.. Give"),
    "open steps": (
        f"{FREE.replace('C', '3')} {{ {BODY} }}", Told(), "leaves the length .*`L`.*shape 3,LE",
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


def test_a_fixed_batch_is_opened_where_windows_do_not_mix():
    source = load_onnx(write(RESHAPED), Told())
    assert source.notes == ("the file's batch of 1 was opened; windows do not mix",)
    assert source.signature.outputs[0].shape == ("batch", 48)
    assert source.module(torch.randn(5, 3, 12)).shape == (5, 48)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (JOINED, "(?s)do not hold for any batch.*with a dynamic batch"),
        (MIXED, r"(?s)otherwise when there are others.*dynamic_axes=\{'x': \{0: 'batch'\}\}"),
    ],
)
def test_a_fixed_batch_that_holds_the_network_together_is_refused(text, message):
    with pytest.raises(UnsupportedModelError, match=message):
        load_onnx(write(text), Told())


HEAD = "(float[N, 3, 12] x) => (float[N, 3, 12] y)"
REFUSED = {
    "two inputs": (
        "(float[N, 3, 12] x, float[N, 3, 12] mask) => (float[N, 3, 12] y) { y = Mul(x, mask) }",
        "takes 2 inputs .`x`, `mask`.; expected one signal",
    ),
    "no input": ("() => (float[4] y) <float[4] c = {1, 2, 3, 4}> { y = Relu(c) }", "takes 0 inp"),
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
        f"{HEAD} {{ h = Cast<to=10>(x) y = Cast<to=1>(h) }}", r"\(Cast\) in .* rounds to float16",
    ),
    "half weights": (
        f"{HEAD} <float16[1] c = {{1}}> {{ k = Cast<to=1>(c) y = Mul(x, k) }}", "`c` .* is float16",
    ),
    "quantised": (
        (f"{HEAD} <float s = {{0.1}}, uint8 z = {{0}}> {{ q = QuantizeLinear(x, s, z) "
        "y = DequantizeLinear(q, s, z) }"), r"\(QuantizeLinear\) .* is quantised already.*int8",
    ),
    "chance": (f"{HEAD} {{ r = RandomNormalLike(x) y = Add(x, r) }}", "draws random numbers"),
    "dropout in training": (
        f"{HEAD} <float r = {{0.5}}, bool t = {{1}}> {{ y = Dropout(x, r, t) }}",
        r"\(Dropout\) .* is in training mode. Call model.eval\(\)",
    ),
    "batch norm in training": (
        (f"{HEAD} <float[3] s = {{1, 1, 1}}> {{ y, m, v = BatchNormalization<training_mode=1>"
        "(x, s, s, s, s) }"), "is in training mode",
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
        load_onnx(write(text), Told())


def test_dropout_that_is_switched_off_is_none():
    text = f"{HEAD} <float r = {{0.5}}, bool t = {{0}}> {{ y = Dropout(x, r, t) }}"
    assert load_onnx(write(text), Told()).only_single == ""


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
    text = f"{HEAD} {{ c = Constant<value_floats=[0.5, 1.5, 2.5]>() t = Constant<value = " \
           "float[1, 3, 1] {1, 2, 3}>() z = Mul(x, t) y = Add(z, s) s = Constant<value_float=" \
           "0.25>() }"  # fmt: skip
    nodes = build(text).graph.node
    model = build(text)
    del model.graph.node[:]
    model.graph.node.extend([
        *(n for n in nodes if not n.input),
        *(n for n in nodes if n.input),
    ])
    source = load_onnx(write(model), Told())
    assert source.parameters == 3 + 3 + 1


FUNCTION = (
    '{ y = own.twice(x) } <domain: "own", opset_import: ["" : 20]> '
    "twice (a) => (b) { t = Tanh(a) b = Add(t, t) }"
)


def test_functions_of_the_file_are_unfolded():
    model = build(f"{HEAD} {FUNCTION}", more=', "own" : 1')
    source = load_onnx(write(model), Told())
    x = torch.randn(2, 3, 12)
    torch.testing.assert_close(source.module(x), 2 * torch.tanh(x))


def test_functions_that_unfold_without_end_are_refused():
    bodies = "".join(
        f'<domain: "own", opset_import: ["" : 20, "own" : 1]> '
        f"f{i} (a) => (b) {{ t = own.f{i - 1}(a) b = own.f{i - 1}(t) }} "
        for i in range(1, 40)
    )
    last = '<domain: "own", opset_import: ["" : 20]> f0 (a) => (b) { b = Relu(a) }'
    model = build(f"{HEAD} {{ y = own.f39(x) }} {bodies} {last}", more=', "own" : 1')
    with pytest.raises(CheckpointError, match="unfold to more than 100,000 operators"):
        load_onnx(write(model), Told())


def test_tensors_that_would_fill_the_memory_are_refused():
    text = (
        "(float[N, 3, 12] x) => (float[N, 3, 12] y) <int64[3] to = {100000, 100000, 12}> "
        "{ big = ConstantOfShape(to) s = ReduceMean<keepdims=0>(big) y = Add(x, s) }"
    )
    with pytest.raises(UnsupportedModelError, match="`big` .* has 120,000,000,000 values"):
        load_onnx(write(text), Told())


def test_weights_that_are_no_numbers_are_refused():
    poisoned = {**WEIGHTS, "b": np.array([1, np.nan, np.inf, 0], np.float32)}
    with pytest.raises(CheckpointError, match="2 of 4 values of `b` .* are NaN or infinite"):
        load_onnx(write(build(MEAN, poisoned)), Told())


def test_weights_without_their_values_are_refused():
    model = build(MEAN)
    model.graph.initializer[0].raw_data = b"1234"
    with pytest.raises(CheckpointError):
        load_onnx(write(model), Told())


def external(location: str, **told: object) -> onnx.ModelProto:
    """The model with its first weight in another file."""
    model = build(MEAN)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **told}.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


@pytest.mark.parametrize("location", ["w.bin", "weights/w.bin", "./w.bin", "link.bin"])
def test_weights_beside_the_file_are_read_and_hashed(location, folder):
    (folder / "weights").mkdir()
    raw = b"1234" + WEIGHTS["w"].tobytes()
    for name in ("w.bin", "weights/w.bin"):
        (folder / name).write_bytes(raw)
    (folder / "link.bin").symlink_to("w.bin")
    path = write(external(location, offset=4, length=len(raw) - 4))
    source = load_onnx(path, Told())
    want = load_onnx(write(MEAN, Path("whole.onnx")), Told())
    x = torch.randn(2, 3, 12)
    assert torch.equal(source.module(x), want.module(x))
    assert source.sha256 == hashlib.sha256(path.read_bytes() + raw).hexdigest()
    assert not any(t.external_data for t in source.model.graph.initializer)


@pytest.mark.parametrize(
    "location", ["../secret.bin", "", ".", "absent.bin", "out.bin", "a\0b", "x" * 5000]
)
def test_weights_elsewhere_are_refused(location, folder):
    inner = folder / "inner"
    inner.mkdir()
    secret = folder / "secret.bin"
    secret.write_bytes(WEIGHTS["w"].tobytes())
    (inner / "out.bin").symlink_to(secret)
    path = write(external(location), inner / "own.onnx")
    with pytest.raises(
        CheckpointError, match=r"keeps `w` in .*, which is no file in its fold"
    ):
        load_onnx(path, Told())


def test_weights_by_a_whole_path_are_refused(folder):
    secret = folder / "secret.bin"
    secret.write_bytes(WEIGHTS["w"].tobytes())
    inner = folder / "inner"
    inner.mkdir()
    path = write(external(str(secret)), inner / "own.onnx")
    with pytest.raises(CheckpointError, match="which is no file in its folder"):
        load_onnx(path, Told())


@pytest.mark.parametrize(
    "told",
    [{"length": 4}, {"offset": 8}, {"offset": -4}, {"offset": "x"}, {"length": 10**12}],
)
def test_weights_of_another_size_are_refused(told, folder):
    (folder / "w.bin").write_bytes(WEIGHTS["w"].tobytes())
    with pytest.raises(CheckpointError, match=r"own\.onnx (keeps|is damaged)"):
        load_onnx(write(external("w.bin", **told)), Told())


def test_a_named_pipe_for_weights_is_not_waited_for(folder):
    os.mkfifo(folder / "w.bin")
    with pytest.raises(CheckpointError, match="which is no file in its folder"):
        load_onnx(write(external("w.bin")), Told())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no valid ONNX model"),
        (b"PK\x03\x04", "is not an ONNX model, or is damaged|is no valid ONNX model"),
        (b"\xff" * 40, "is not an ONNX model, or is damaged"),
    ],
)
def test_other_files_are_refused(content, message):
    Path("own.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_onnx(Path("own.onnx"), Told())


def test_missing_files_are_refused():
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        load_onnx(Path("own.onnx"), Told())


ORIGINAL = build(MEAN).SerializeToString()


@given(
    places=st.lists(
        st.tuples(st.integers(0, len(ORIGINAL) - 1), st.integers(1, 255)),
        min_size=1,
        max_size=4,
    )
)
def test_damaged_files_never_end_in_a_traceback(places, tmp_path_factory):
    raw = bytearray(ORIGINAL)
    for place, bits in places:
        raw[place] ^= bits
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(raw)
    try:
        load_onnx(path, Told())
    except ExportError as error:
        assert str(error)  # noqa: PT017 - a flipped bit of a weight hurts nobody


def test_values_computed_at_run_time_do_not_make_names_up():
    """Names that cannot be printed are replaced; those of values stay."""
    model = build(MEAN)
    model.graph.node[0].name = "a\nb"
    model.graph.node[1].name = model.graph.node[2].name = "same"
    source = load_onnx(write(model), Told())
    assert [node.name for node in source.model.graph.node] == ["Conv", "same", "same_2"]
    assert helper.printable_graph(source.model.graph)
