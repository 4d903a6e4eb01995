"""Every kind of network that a user may have goes through the real command."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from support import run
from tcn_export import load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.source.foreign import load_factory

NETWORKS = """
import torch
from torch import nn

class Tcn(nn.Module):
    def __init__(self, width=8, is_nlc=False, is_plain=False):
        super().__init__()
        self.is_nlc, self.is_plain = is_nlc, is_plain
        self.conv = nn.Conv1d(3, width, 3, padding=4, dilation=2)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, 4)
    def forward(self, x):
        x = x.transpose(1, 2) if self.is_nlc else x
        h = torch.relu(self.norm(self.conv(x)[:, :, :-4]))
        if self.is_plain:
            return self.head(h.mean(-1))
        return {"hidden": h.transpose(1, 2) if self.is_nlc else h,
                "logits": self.head(h.mean(-1))}

class Called(Tcn):
    def __init__(self):
        super().__init__(is_plain=True)
        self.signal = nn.Parameter(torch.full((3, 1), 2.0))
        self.logits = nn.Parameter(torch.full((4,), 2.0))
    def forward(self, signal):
        answer = super().forward(signal * self.signal) * self.logits
        return {"logits": answer, "head.weight": answer + self.head.weight[0, 0],
                "signal": answer * 2}
class CalledAlone(Called):
    def forward(self, signal):
        return super().forward(signal)["logits"]

def plain(width=8):
    return Tcn(width, is_plain=True)

def raising():
    return plain(1 // 0)

def text():
    return "plain"
"""
SHAPE = ("--input-shape", "3,24")


@pytest.fixture
def networks(tmp_path, monkeypatch):
    """The current folder holds the module `source_networks`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source_networks.py").write_text(NETWORKS)
    yield tmp_path
    sys.modules.pop("source_networks", None)


def exported(*arguments, code=0):
    done = run(export_command, *arguments, "--target", "onnx", "--json")
    assert done.code == code, done.stderr
    return done.json


def eager(x, **arguments):
    module = load_factory("source_networks:Tcn", (3, 24), arguments=arguments).module
    with torch.no_grad():
        logits, hidden = module.double()(torch.from_numpy(x).double())
    return {"logits": logits.numpy(), "hidden": hidden.numpy()}


def test_weights_of_a_checkpoint_go_into_the_factory_s_network(networks):
    torch.manual_seed(3)
    net = load_factory("source_networks:plain", (3, 24), arguments={"width": 5}).module
    state = {f"module.{k}": torch.randn_like(v) ** 2 if v.is_floating_point() else v
             for k, v in net.state_dict().items()}  # fmt: skip
    torch.save({"epoch": 7, "model_state_dict": state}, "best.pth")
    told = exported(
        "best.pth",
        "--factory",
        "source_networks:plain",
        "--factory-args",
        '{"width": 5}',
        *SHAPE,
    )
    assert told["bundle"] == "exported/best-onnx-float32"
    assert told["verified"]
    assert told["source"] == {
        "file": "best.pth", "kind": "weights", "architecture": "source_networks:plain",
        "arguments": {"width": 5}, "parameters": 84, "notes": [],
        "sha256": told["source"]["sha256"],
    }  # fmt: skip
    bundle = load_bundle("exported/best-onnx-float32")
    x = np.random.default_rng(0).standard_normal((2, 3, 24)).astype(np.float32)
    net.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
    with torch.no_grad():
        want = net(torch.from_numpy(x)).numpy()
    got = bundle.runner(threads=1).run({"signal": x})["logits"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def other_weights(path, change):
    state = load_factory("source_networks:plain", (3, 24)).module.state_dict()
    change(state)
    torch.save(state, path)


PLAIN = "source_networks:plain"
WRONG = {
    "surplus": (
        lambda path: other_weights(path, lambda s: s.update(tail=torch.ones(1))), PLAIN,
        r"1 not expected \(tail\)",
    ),
    "missing": (
        lambda path: other_weights(path, lambda s: s.pop("head.bias")), PLAIN,
        r"1 missing \(head\.bias\)",
    ),
    "of another shape": (
        lambda path: other_weights(path, lambda s: s.update({"head.bias": torch.ones(9)})),
        PLAIN, r"1 of another shape \(`head\.bias` is \(9,\), expected \(4,\)\)",
    ),
    "no zip": (lambda path: path.write_bytes(b"weights"), PLAIN, "not a complete zip"),
    "absent": (lambda path: None, PLAIN, "cannot be read: No such file"),
    "no such factory": (
        lambda path: None, "source_networks:plane", "has no `plane`.*It holds plain",
    ),
    "a factory that raises": (
        lambda path: None, "source_networks:raising",
        r"raised ZeroDivisionError.*source_networks\.py:\d+, in raising",
    ),
    "a factory of something else": (
        lambda path: None, "source_networks:text", "returned a str; expected a torch.nn",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_weights_and_factories_that_do_not_fit_write_nothing(networks, case):
    make, factory, message = WRONG[case]
    make(networks / "best.pt")
    done = run(export_command, "best.pt", "--factory", factory, *SHAPE, "--target", "onnx")
    assert done.code == 1
    assert re.search(message, done.stderr, flags=re.S), done.stderr
    assert not (networks / "exported").exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_state_dicts_of_every_ending_give_the_same_bundle(networks, suffix):
    torch.manual_seed(1)
    net = load_factory(PLAIN, (3, 24)).module
    state = {
        k: torch.rand_like(v) if v.is_floating_point() else v
        for k, v in net.state_dict().items()
    }
    path = f"own{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    told = exported(path, "--factory", PLAIN, *SHAPE, "--layout", "1d")
    assert told["verified"]
    net.load_state_dict(state)
    x = np.random.default_rng(0).standard_normal((2, 3, 24)).astype(np.float32)
    got = load_bundle(told["bundle"]).runner(threads=1).run({"signal": x})["logits"]
    with torch.no_grad():
        want = net(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_nlc", [False, True])
def test_dictionaries_and_layouts_of_the_user_s_become_ours(networks, is_nlc):
    arguments = f'{{"is_nlc": {str(is_nlc).lower()}}}'
    told = exported("--factory", "source_networks:Tcn", "--factory-args", arguments, *SHAPE)
    assert [(spec["name"], spec["shape"]) for spec in told["outputs"]] == [
        ("logits", ["batch", 4]), ("hidden", ["batch", 8, 24]),
    ]  # fmt: skip
    assert bool(told["source"]["notes"]) == is_nlc
    steps = {step["name"]: step["modified"] for step in told["rewrites"]}
    assert steps["crop_to_padding"] == steps["fold_batch_norm"] == 1
    bundle = load_bundle("exported/Tcn-onnx-float32")
    assert b"conv.weight" in bundle.files["model.onnx"]
    assert b"network.conv.weight" not in bundle.files["model.onnx"]
    x = np.random.default_rng(0).standard_normal((2, 3, 24)).astype(np.float32)
    got = bundle.runner(threads=1).run({"signal": x})
    for name, want in eager(x, is_nlc=is_nlc).items():
        np.testing.assert_allclose(got[name], want, rtol=1e-4, atol=1e-5)


def test_every_output_is_judged_on_windows_and_verified_again(networks):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3, 24)).astype(np.float32)
    y = eager(x)["logits"].argmax(1)
    np.savez("own.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    told = exported(
        "--factory", "source_networks:Tcn", *SHAPE, "--precision", "int8", "--data", "own.npz",
        "--max-drop", 10,
    )  # fmt: skip
    judged = {
        (row["output"], row["metric"]): row["status"]
        for row in told["parity"]["rows"]
        if row["feed"] == "windows"
    }
    assert judged["hidden", "sqnr_db"] == "pass"
    assert judged["logits", "accuracy_lost_upper95_points"] == "pass"
    assert ("hidden", "agreement") not in judged
    done = run(verify_command, told["bundle"], "--data", "own.npz")
    assert done.code == 0, done.stderr


def test_a_second_output_that_is_lost_is_lost_parity(networks):
    """The answer alone would pass: it does not depend on what int8 loses."""
    code = """
import torch
from torch import nn
class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3)
    def forward(self, x):
        h = self.conv(x)
        return h.mean(-1), (h * 1e-3 + 1).mean(-1) - 1
"""
    (networks / "source_networks.py").write_text(code)
    x = np.random.default_rng(0).standard_normal((300, 3, 24)).astype(np.float32)
    np.savez("own.npz", x_train=x[:150], x_test=x[150:])
    told = exported(
        "--factory", "source_networks:Small", *SHAPE, "--precision", "int8",
        "--data", "own.npz", code=3,
    )  # fmt: skip
    failed = {row["output"] for row in told["parity"]["rows"] if row["status"] == "fail"}
    assert "output_1" in failed


@pytest.mark.parametrize("factory", ["Called", "CalledAlone"])
def test_answers_may_be_called_as_weights_are(networks, factory):
    told = exported("--factory", f"source_networks:{factory}", *SHAPE, "--layout", "1d")
    assert told["verified"]
