"""Networks of the user's own go through the real command, without a weights file."""

from __future__ import annotations

import copy
import re
import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from support import operators, run
from tcn_export import ExportOptions, export, load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.cli.inspect import main as inspect_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.errors import UsageError
from tcn_export.source.foreign import load_factory

NETWORKS = """
import torch
from torch import nn

class Chomp(nn.Module):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps
    def forward(self, x):
        return x[:, :, : -self.steps].contiguous()

class Block(nn.Module):
    def __init__(self, inner, width, dilation, wrap):
        super().__init__()
        pad = 2 * dilation
        conv = nn.Conv1d(inner, width, 3, padding=pad, dilation=dilation)
        self.body = nn.Sequential(wrap(conv), Chomp(pad), nn.BatchNorm1d(width), nn.ReLU())
        self.skip = nn.Conv1d(inner, width, 1) if inner != width else nn.Identity()
    def forward(self, x):
        return torch.relu(self.body(x) + self.skip(x))

class Tcn(nn.Module):
    def __init__(self, head="last", wrap=lambda conv: conv):
        super().__init__()
        self.blocks = nn.Sequential(Block(3, 8, 1, wrap), Block(8, 8, 2, wrap))
        self.head, self.read = nn.Linear(8, 4), head
        for m in self.modules():
            if isinstance(m, nn.BatchNorm1d):
                nn.init.normal_(m.running_mean, std=0.2)
                nn.init.uniform_(m.running_var, 0.5, 2.0)
    def forward(self, x):
        h = self.blocks(x)
        if self.read == "every":
            return self.head(h.transpose(1, 2)).transpose(1, 2)
        return self.head(h.mean(-1) if self.read == "mean" else h[:, :, -1])

def mean(): return Tcn("mean")
def every(): return Tcn("every")
def new_norm(): return Tcn(wrap=nn.utils.parametrizations.weight_norm)
def old_norm(): return Tcn(wrap=nn.utils.weight_norm)
class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3)
    def forward(self, x):
        return self.conv(torch.cat([x.new_zeros(x.shape[0], 3, 2), x], 2)).mean(-1)

def chatty():
    print("made")
    return Tcn()
"""


@pytest.fixture
def networks(tmp_path, monkeypatch):
    """The current folder holds the module `own_networks`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_networks.py").write_text(NETWORKS)
    yield tmp_path
    sys.modules.pop("own_networks", None)


def exported(factory, *options):
    done = run(
        export_command, "--factory", f"own_networks:{factory}", "--input-shape", "3,24",
        "--target", "onnx", *options,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    return done


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize(
    ("factory", "options", "shapes", "folded"),
    [
        ("Tcn", (), ["batch", 4], 2),
        ("mean", ("--length", "dynamic"), ["batch", 4], 2),
        ("every", ("--length", 31), ["batch", 4, 31], 2),
        ("every", ("--length", "dynamic"), ["batch", 4, "length"], 2),
        ("new_norm", (), ["batch", 4], 2),
        ("old_norm", (), ["batch", 4], 2),
    ],
)
def test_networks_export_under_the_name_of_their_factory(
    networks, factory, options, shapes, folded
):
    bundle = exported(factory, *options, "--json").json
    assert bundle["bundle"] == f"exported/{factory}-onnx-float32"
    assert bundle["verified"]
    assert bundle["outputs"][0]["shape"] == shapes
    steps = {step["name"]: step["modified"] for step in bundle["rewrites"]}
    assert steps["crop_to_padding"] == steps["fold_batch_norm"] == folded
    assert run(verify_command, bundle["bundle"]).code == 0


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
def test_weight_norm_of_old_is_computed_once_and_not_in_the_graph(networks):
    exported("old_norm", "--json")
    bundle = load_bundle("exported/old_norm-onnx-float32")
    module = load_factory("own_networks:old_norm", (3, 24)).module
    x = np.random.default_rng(1).standard_normal((2, 3, 24)).astype(np.float32)
    with torch.no_grad():
        want = copy.deepcopy(module).double()(torch.from_numpy(x).double()).numpy()
    got = bundle.runner(threads=1).run({"signal": x})["logits"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    model = ir.from_proto(onnx.load_from_string(bundle.files["model.onnx"]))
    assert not {"Mul", "Div", "ReduceSum", "Sqrt", "ReduceL2"} & set(operators(model))


def test_networks_that_join_several_constants_keep_names_apart(networks):
    exported("Padded")
    raw = load_bundle("exported/Padded-onnx-float32").files["model.onnx"]
    names = [tensor.name for tensor in onnx.load_from_string(raw).graph.initializer]
    assert {"Concat.inputs", "Concat.inputs_2"} <= set(names), names


def test_manifest_says_where_the_network_comes_from(networks):
    done = exported("Tcn", "--factory-args", '{"head": "mean"}', "--name", "watch")
    manifest = load_bundle("exported/watch-onnx-float32").manifest
    assert manifest.name == "watch"
    assert len(manifest.source.pop("sha256")) == 64
    assert manifest.source == {
        "file": "own_networks:Tcn",
        "kind": "factory",
        "architecture": "own_networks:Tcn",
        "arguments": {"head": "mean"},
        "parameters": 380,
        "notes": [],
    }
    assert "own_networks:Tcn (factory)" in done.stdout
    shown = run(inspect_command, "exported/watch-onnx-float32")
    assert shown.code == 0
    assert "own_networks:Tcn (factory)" in shown.stdout


def test_what_the_factory_prints_is_no_result(networks):
    done = exported("chatty", "--json")
    assert done.json["verified"]
    assert "made" in done.stderr


def test_real_windows_tell_names_and_where_the_signal_lives(networks):
    rng = np.random.default_rng(0)
    center, spread = np.array([9.81, -300.0, 0.0]), np.array([0.5, 40.0, 0.0])
    noise = rng.standard_normal((400, 3, 24)) * spread[:, None] + center[:, None]
    names = ["rest", "walk", "run", "fall"]
    np.savez(
        "own.npz", x_train=noise[:200].astype(np.float32), fs_hz=50.0, class_names=names,
        x_test=noise[200:].astype(np.float32),
    )  # fmt: skip
    exported("mean", "--data", "own.npz", "--precision", "int8")
    bundle = load_bundle("exported/mean-onnx-int8")
    assert bundle.manifest.classes == tuple(names)
    assert bundle.manifest.sample_rate_hz == 50.0
    with np.load("exported/mean-onnx-int8/golden.npz") as golden:
        (key,) = (k for k in golden.files if "normal" in k and golden[k].shape[1:] == (3, 24))
        normal = golden[key]
    assert np.abs(normal.mean(axis=(0, 2)) - center).max() < 3 * 40 / np.sqrt(96)
    assert normal.std(axis=(0, 2)) == pytest.approx([0.5, 40.0, 1.0], rel=0.3)
    done = run(verify_command, "exported/mean-onnx-int8", "--data", "own.npz")
    assert done.code == 0, done.stderr


def test_names_for_other_classes_are_refused(networks):
    x = np.random.default_rng(0).standard_normal((20, 3, 24)).astype(np.float32)
    np.savez("own.npz", x_test=x, class_names=["rest", "walk"])
    done = run(
        export_command, "--factory", "own_networks:mean", "--input-shape", "3,24",
        "--target", "onnx", "--data", "own.npz",
    )  # fmt: skip
    assert done.code == 1
    assert "names its classes rest, walk, but the model" in done.stderr


def test_bundles_with_numbered_classes_are_verified_on_data_with_names(networks):
    exported("mean")
    x = np.random.default_rng(0).standard_normal((20, 3, 24)).astype(np.float32)
    y = np.arange(20) % 4
    np.savez("own.npz", x_test=x, y_test=y, class_names=["rest", "walk", "run", "fall"])
    done = run(verify_command, "exported/mean-onnx-float32", "--data", "own.npz")
    assert done.code == 0, done.stderr


USAGE = {
    "nothing": ([], "nothing to export: give MODEL.*or --factory"),
    "a factory for a whole network": (
        ["model.onnx", "--factory", "m:f", "--input-shape", "3,24"],
        "--factory was given for model.onnx: an ONNX model is a whole network and needs none",
    ),
    "arguments for a whole network": (
        ["model.pt2", "--factory-args", "{}"],
        "--factory-args was given for model.pt2: a torch.export program is a whole network",
    ),
    "weights alone": (
        ["model.safetensors"], "holds weights, but not the network they belong to.*--factory",
    ),
    "no shape": (["--factory", "m:f"], "Give --input-shape CHANNELS,LENGTH"),
    "no name": (["--factory", "m", "--input-shape", "3,24"], "not of the form MODULE:NAME"),
    "two names": (["--factory", "m:f:g", "--input-shape", "3,24"], "not of the form MODULE"),
    "a call": (["--factory", "m:f()", "--input-shape", "3,24"], "not of the form MODULE:NAME"),
    "a file": (
        ["--factory", "nets/m.py:f", "--input-shape", "3,24"],
        "names a file; expected MODULE:NAME.*with m:f",
    ),
    "one number": (["--factory", "m:f", "--input-shape", "24"], "'24' is not of the form CH"),
    "words": (["--factory", "m:f", "--input-shape", "3,x"], "'3,x' is not of the form CHANN"),
    "zero": (["--factory", "m:f", "--input-shape", "0,24"], "'0,24' is not of the form CHAN"),
    "too long": (
        ["--factory", "m:f", "--input-shape", "3,2000000"], r"\(3, 2000000\); expected .*each",
    ),
    "not JSON": (
        ["--factory", "m:f", "--input-shape", "3,24", "--factory-args", "head=mean"],
        "'head=mean' is not JSON",
    ),
    "no object": (
        ["--factory", "m:f", "--input-shape", "3,24", "--factory-args", "[1]"],
        "is not a JSON object, such as",
    ),
    "shape of a checkpoint": (["m.pt", "--input-shape", "3,24"], "--input-shape belongs to"),
    "task of a checkpoint": (["m.pt", "--task", "regression"], "--task belongs to --factory"),
    "arguments of a checkpoint": (["m.pt", "--factory-args", "{}"], "--factory-args belongs"),
    "layout of a checkpoint": (["m.pt", "--input-layout", "NLC"], "--input-layout belongs to"),
    "answer of a checkpoint": (["m.pt", "--answer", "logits"], "--answer belongs to --fact"),
    "another layout": (
        ["m.onnx", "--input-layout", "LNC"], "'LNC' is not one of NCL, NLC. Did you mean",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", USAGE)
def test_options_that_do_not_fit_are_refused(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, message = USAGE[case]
    done = run(export_command, *arguments, "--target", "onnx")
    assert done.code == 2
    assert re.search(message, done.stderr, flags=re.S), done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (3,)}, r"the input shape is \(3,\); expected channels and length"),
        ({"input_shape": "3,24"}, "the input shape is '3,24'"),
        ({"input_shape": (3, 24), "task": "ranking"}, "'ranking' is none of classification"),
        ({"input_shape": (3, 24), "factory_args": [1]}, r"arguments are \[1\]; expected key"),
        ({"input_shape": (3, 24), "input_layout": "LNC"}, "'LNC' is none of NCL, NLC"),
    ],
)
def test_options_are_checked_in_the_library_too(options, message):
    with pytest.raises(UsageError, match=message):
        ExportOptions(factory="m:f", **options)


def test_the_library_exports_factories(networks):
    result = export(
        None,
        ExportOptions(factory="own_networks:every", input_shape=(3, 24), task="regression"),
    )
    assert result.report.verified
    assert result.bundle.manifest.signature.outputs[0].name == "forecast"


@pytest.mark.parametrize(
    ("factory", "shape"), [("tcn_har", "9,512"), ("resnet_ecg", "12,1000")]
)
def test_reference_networks_export(shared_bench, tmp_path, monkeypatch, factory, shape):
    monkeypatch.chdir(shared_bench)
    done = run(
        export_command, "--factory", f"user_models:{factory}", "--input-shape", shape,
        "--target", "onnx", "--out", tmp_path, "--json",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert (tmp_path / f"{factory}-onnx-float32" / "model.onnx").is_file()
    assert done.json["verified"]
