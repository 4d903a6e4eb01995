"""Networks that come whole in a file, .onnx or .pt2, go through the real command."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from onnx_texts import HEAD, build, write
from programs import OPEN_BATCH, save
from support import run
from tcn_export import load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.cli.inspect import main as inspect_command
from tcn_export.cli.verify import main as verify_command

CHANNELS, STEPS = 3, 40


class Tcn(nn.Module):
    """Two causal convolutions, read at the last step; with what training leaves behind."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(3, 8, 3, padding=2)
        self.second = nn.Conv1d(8, 8, 3, padding=8, dilation=4)
        self.norm, self.drop, self.head = nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 4)
        nn.init.normal_(self.norm.running_mean)

    def forward(self, x):
        h = torch.relu(self.norm(self.first(x)[:, :, :-2]))
        h = h + torch.relu(self.second(self.drop(h))[:, :, :-8])
        return self.head(h[:, :, -1])


def to_onnx(module, path, shape=(2, CHANNELS, STEPS), dynamic=OPEN_BATCH):
    torch.onnx.export(
        module, (torch.zeros(shape),), path, dynamo=True, verbose=False, external_data=False,
        dynamic_shapes=dynamic,
    )  # fmt: skip
    return path


def to_old_onnx(module, path):
    torch.onnx.export(
        module, (torch.zeros(1, CHANNELS, STEPS),), path, dynamo=False, input_names=["x"],
        output_names=["scores"], dynamic_axes={"x": {0: "batch"}, "scores": {0: "batch"}},
    )  # fmt: skip
    return path


FILES = {
    "onnx": lambda m: to_onnx(m, Path("own.onnx")),
    "onnx of one window": lambda m: to_onnx(m, Path("own.onnx"), (1, CHANNELS, STEPS), None),
    "onnx by the older exporter": lambda m: to_old_onnx(m, Path("own.onnx")),
    "pt2": lambda m: save(m, Path("own.pt2"), (2, CHANNELS, STEPS)),
    "pt2 of one window": lambda m: save(m, Path("own.pt2"), (1, CHANNELS, STEPS), None),
}
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:torch"
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def exported(path, *options, code=0):
    done = run(export_command, path, "--target", "onnx", "--json", *options)
    assert done.code == code, done.stderr
    return done.json


@pytest.mark.parametrize("case", FILES)
def test_files_are_read_at_their_last_step_and_verified(case):
    torch.manual_seed(0)
    net = Tcn().eval()
    told = exported(FILES[case](net), "--layout", "1d")
    assert told["verified"]
    assert told["source"]["kind"] == ("onnx" if "onnx" in case else "program")
    assert bool(told["source"]["notes"]) == ("of one window" in case)
    assert told["parity"]["oracle"] == "float64"
    assert (told["receptive_field"], told["causal"]) == (11, True)
    steps = {step["name"]: step["modified"] for step in told["rewrites"]}
    assert steps["crop_to_padding"] == 2
    assert steps["fold_batch_norm"] == 1
    assert steps["last_step"] > 0
    bundle = load_bundle(told["bundle"])
    x = np.random.default_rng(0).standard_normal((2, CHANNELS, STEPS)).astype(np.float32)
    (got,) = (
        bundle.runner(threads=1).run({bundle.manifest.signature.inputs[0].name: x}).values()
    )
    with torch.no_grad():
        want = net(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert run(verify_command, told["bundle"]).code == 0


@pytest.mark.parametrize("case", ["onnx", "pt2"])
def test_files_are_laid_out_by_measurement_and_quantised(case):
    torch.manual_seed(0)
    net = Tcn().eval()
    x = np.random.default_rng(0).standard_normal((400, CHANNELS, STEPS)).astype(np.float32)
    with torch.no_grad():
        y = net(torch.from_numpy(x)).argmax(1).numpy()
    np.savez("own.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    told = exported(
        FILES[case](net), "--precision", "int8", "--data", "own.npz", "--max-drop", 10
    )
    assert told["verified"]
    assert len(told["layout"]["candidates"]) > 1
    done = run(verify_command, told["bundle"], "--data", "own.npz")
    assert done.code == 0, done.stderr


@pytest.mark.parametrize("case", FILES)
def test_files_are_inspected_as_they_are(case):
    done = run(inspect_command, FILES[case](Tcn().eval()), "--json")
    assert done.code == 0, done.stderr
    assert done.json["kind"] == ("onnx" if "onnx" in case else "program")
    assert (done.json["receptive_field"], done.json["causal"]) == (11, True)
    assert ("notes" in done.json) == ("of one window" in case)


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_a_reference_network_comes_by_file(kind, shared_bench, monkeypatch):
    monkeypatch.syspath_prepend(shared_bench)
    import user_models

    net, shape = user_models.tcn_har(), (2, 9, 512)
    path = Path(f"har.{kind}")
    if kind == "onnx":
        to_onnx(net, path, shape)
    else:
        save(net, path, shape)
    told = exported(path, "--layout", "2d-fused")
    steps = {step["name"]: step["modified"] for step in told["rewrites"]}
    assert steps["crop_to_padding"] == steps["fold_batch_norm"] == 8
    assert steps["last_step"] > 8
    assert told["verified"]
    assert run(verify_command, told["bundle"]).code == 0


def single_only() -> Path:
    """A model whose norm gives its mean too, which the standard keeps in float32."""
    norm = "z, m = LayerNormalization<axis=-1>(x, s) y = Add(z, m)"
    model = build(f"{HEAD} {{ {norm} }}", {"s": np.ones(12, np.float32)})
    return write(model)


def test_the_report_says_where_the_oracle_is_float32():
    path = single_only()
    done = run(
        export_command, path, "--target", "onnx", "--keep-all-steps", "--input-layout", "NCL"
    )
    assert done.code == 0, done.stderr
    assert "compared with" in done.stdout
    bundle = load_bundle("exported/own-onnx-float32")
    assert bundle.manifest.parity["oracle"].startswith("float32")
    assert "LayerNormalization" in bundle.manifest.parity["oracle"]
    assert run(verify_command, bundle.path).code == 0


WRONG = {
    "no zip": ("own.pt2", b"weights", 1, "is no .pt2 archive"),
    "no model": ("own.onnx", b"weights", 1, "is not an ONNX model|is no valid ONNX"),
    "nothing": ("own.onnx", None, 1, "cannot be read: No such file"),
    "no zip at all": ("own.pt", b"weights", 1, "is not a PyTorch checkpoint"),
}


@pytest.mark.parametrize("case", WRONG)
def test_files_of_another_kind_are_refused_and_nothing_is_written(case):
    name, content, code, message = WRONG[case]
    if content is not None:
        Path(name).write_bytes(content)
    done = run(export_command, name, "--target", "onnx")
    assert done.code == code
    assert re.search(message, done.stderr), done.stderr
    assert not Path("exported").exists()
