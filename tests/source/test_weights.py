"""A state dict in a file of its own: what is looked through, and what does not fit."""

from __future__ import annotations

import hashlib
import json
import struct
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save as to_safetensors
from torch import nn

from tcn_export.errors import CheckpointError, FactoryError
from tcn_export.source.foreign import load_factory
from tcn_export.source.weights import load_weights

STEPS = 12


class Net(nn.Module):
    def __init__(self, wrap=lambda conv: conv):
        super().__init__()
        self.conv = wrap(nn.Conv1d(3, 8, 3, padding=2))
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 4)


def trained(wrap=lambda conv: conv) -> nn.Module:
    torch.manual_seed(7)
    net = Net(wrap)
    nn.init.normal_(net.norm.running_mean)
    return net


def prefixed(prefix: str) -> dict:
    return {f"{prefix}{name}": value for name, value in trained().state_dict().items()}


WRAPPED = {
    "bare": lambda: trained().state_dict(),
    "state_dict": lambda: {"epoch": 3, "state_dict": trained().state_dict()},
    "model_state_dict": lambda: {"model_state_dict": trained().state_dict(), "loss": 0.1},
    "model": lambda: {"model": trained().state_dict(), "optimizer": {"state": {}}},
    "twice": lambda: {"model": {"state_dict": trained().state_dict()}},
    "DataParallel": lambda: prefixed("module."),
    "compiled": lambda: prefixed("_orig_mod."),
    "both": lambda: prefixed("module._orig_mod."),
    "compiled inside": lambda: {
        name.replace("conv.", "conv._orig_mod."): value
        for name, value in trained().state_dict().items()
    },
    "Lightning": lambda: {"state_dict": prefixed("net."), "epoch": 1},
    "half": lambda: trained().half().state_dict(),
    "parameters": lambda: dict(trained().named_parameters()) | dict(trained().named_buffers()),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_state_dicts_are_found_within_what_training_scripts_save(tmp_path, case):
    path, net = tmp_path / "weights.pth", Net()
    torch.save(WRAPPED[case](), path)
    digest = load_weights(path, net, "mine:make")
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    want = trained().half().float() if case == "half" else trained()
    for name, value in want.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name


def test_safetensors_are_read_under_any_spelling_of_their_ending(tmp_path):
    path, net = tmp_path / "weights.SafeTensors", Net()
    path.write_bytes(to_safetensors(prefixed("module.")))
    load_weights(path, net, "mine:make")
    assert torch.equal(net.head.weight, trained().head.weight)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
def test_weights_behind_a_norm_of_old_fit_the_norm_of_today(tmp_path, norm):
    path, net = tmp_path / "weights.pt", Net(norm)
    saved = trained(nn.utils.weight_norm)
    torch.save(saved.state_dict(), path)
    load_weights(path, net, "mine:make")
    x = torch.randn(2, 3, STEPS)
    assert torch.equal(net.conv(x), saved.conv(x))


def test_names_that_fit_as_they_are_stay_as_they_are(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(nn.ModuleDict({"module": trained()}).state_dict(), path)
    outer = nn.ModuleDict({"module": Net()})
    load_weights(path, outer, "mine:make")
    assert torch.equal(outer["module"].head.weight, trained().head.weight)


def change(**changes):
    def changed() -> dict:
        state = trained().state_dict()
        for name, value in changes.items():
            key = name.replace("__", ".")
            if value is None:
                del state[key]
            else:
                state[key] = value
        return state

    return changed


UNFIT = {
    "missing": (change(head__bias=None), r"1 missing \(head\.bias\).*--factory-args"),
    "surplus": (change(tail=torch.ones(1)), r"1 not expected \(tail\)"),
    "of another network": (
        lambda: nn.LSTM(3, 4, 2).state_dict(),
        r"8 missing \(conv.weight, conv.bias, norm.weight, and 5 more\); 8 not expected \(",
    ),
    "of another shape": (
        change(conv__weight=torch.ones(8, 3, 5), head__bias=torch.ones(7)),
        r"2 of another shape \(`conv.weight` is \(8, 3, 5\), expected \(8, 3, 3\), `head.bia",
    ),
    "integers": (
        change(head__bias=torch.ones(4).int()),
        "is torch.int32, expected torch.float",
    ),
    "sparse": (
        change(head__weight=torch.ones(4, 8).to_sparse()),
        "is not a dense, contiguous",
    ),
    "strided": (change(head__weight=torch.ones(1, 1).expand(4, 8)), "is not a dense"),
    "nothing to find": (
        lambda: {"epoch": 3, "weights": trained().state_dict()},
        "holds `epoch`, `weights`, and no state dict.*`model_state_dict`, `model`. Save them",
    ),
    "nothing at all": (dict, "holds nothing, and no state dict"),
    "a list": (lambda: [1], r"holds a list. Expected a state dict: torch.save\(model.state"),
    "a module": (lambda: nn.Linear(2, 2), "could run code, so it was not loaded.*two lines"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_does_not_fit_is_named(tmp_path, case):
    content, message = UNFIT[case]
    path = tmp_path / "weights.pt"
    torch.save(content(), path)
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        load_weights(path, Net(), "mine:make")


def test_a_network_that_refuses_its_weights_is_named(tmp_path):
    class Proud(Net):
        def load_state_dict(self, *args, **kwargs):
            raise KeyError("not these")

    path = tmp_path / "weights.pt"
    torch.save(trained().state_dict(), path)
    with pytest.raises(FactoryError, match="into the network of `m:f` raised KeyError: 'not"):
        load_weights(path, Proud(), "m:f")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pt", b"", "not a complete zip archive. Expected a state dict"),
        ("w.safetensors", b"\x08", "is not a safetensors file, or is damaged"),
        ("w.safetensors", struct.pack("<Q", 2**60) + b"{}", "is not a safetensors file"),
        (
            "w.safetensors",
            struct.pack("<Q", 70) + json.dumps(
                {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}
            ).encode().ljust(70) + b"1234",
            "is not a safetensors file",
        ),
    ],
)  # fmt: skip
def test_damaged_weights_are_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_weights(path, Net(), "m:f")


def test_weights_that_are_not_there_are_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        load_weights(tmp_path / "w.pt", Net(), "m:f")


@given(places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=4))
def test_damaged_safetensors_never_end_in_a_traceback(tmp_path_factory, places):
    raw = bytearray(to_safetensors(trained().state_dict()))
    for place, bits in places:
        raw[place % 600 if place % 2 else place % len(raw)] ^= bits
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(raw)
    net = Net()
    try:
        load_weights(path, net, "m:f")
    except CheckpointError as error:
        assert str(path) in str(error)  # noqa: PT017 - a flipped bit of a weight hurts nobody


def test_sources_with_weights_are_named_after_their_file(write):
    write("make = Net")
    net = load_factory("mine:make", (3, STEPS)).module
    state = OrderedDict((name, value + 1) for name, value in net.state_dict().items())
    torch.save(state, "watch.pt")
    source = load_factory("mine:make", (3, STEPS), weights=Path("watch.pt"))
    assert (source.name, source.kind, source.path) == ("watch", "weights", Path("watch.pt"))
    assert (source.architecture, source.origin) == ("mine:make", "watch.pt")
    assert torch.equal(source.module.head.bias, state["head.bias"])
    assert source.sha256 == hashlib.sha256(Path("watch.pt").read_bytes()).hexdigest()


def test_weights_that_overflow_are_refused(write):
    write("make = Net")
    state = load_factory("mine:make", (3, STEPS)).module.state_dict()
    torch.save({k: v.double() * 1e300 for k, v in state.items()}, "large.pt")
    with pytest.raises(FactoryError, match=r"values of `conv.weight` .* are NaN or infinite"):
        load_factory("mine:make", (3, STEPS), weights=Path("large.pt"))
