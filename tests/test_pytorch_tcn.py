"""pytorch-tcn's `TCN`, as its users have it: exported unmodified through its own class."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pytorch_tcn import TCN

from support import run
from tcn_export import ExportOptions, export, load_bundle, open_stream, verify
from tcn_export.cli.export import main as export_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.parity.tolerance import float32_limit

STEPS = 40
NETWORK = {
    "num_inputs": 3, "num_channels": [8, 12, 12], "kernel_size": 3, "output_projection": 5,
}  # fmt: skip
"""Levels that widen once and then do not: with a projection of the residual, and without."""
NORMS = ["batch_norm", "weight_norm", "layer_norm"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_answers(bundle, arguments):
    """Compare with the network itself, not with our oracle: called as its users call it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # as a factory is called
        network = TCN(**NETWORK, **arguments).eval()
    x = np.random.default_rng(0).standard_normal((2, 3, STEPS)).astype(np.float32)
    is_nlc = arguments.get("input_shape") == "NLC"
    signal = torch.from_numpy(x).transpose(1, 2) if is_nlc else torch.from_numpy(x)
    check_equal(
        bundle.runner(threads=1).run({"signal": x})["forecast"], network, signal, is_nlc
    )


def check_equal(answer, network, signal, is_nlc=False):
    """Compare with the network, as far as there are answers: a stream gives some later."""
    with torch.no_grad():
        single, double = network(signal).double(), network.double()(signal.double())
    if not is_nlc:
        single, double = (y[:, :, : answer.shape[2]] for y in (single, double))
    exact = (double.transpose(1, 2) if is_nlc else double).numpy()
    limit = float32_limit(float((single - double).abs().max()), float(np.abs(exact).max()))
    assert answer.shape == exact.shape
    assert np.abs(answer - exact).max() <= limit


def exported(layout="NCL", **arguments):
    """Export by the library, and verify the bundle that was written."""
    result = export(
        None,
        ExportOptions(
            factory="pytorch_tcn:TCN",
            factory_args={**NETWORK, **arguments},
            input_shape=(NETWORK["num_inputs"], STEPS),
            input_layout=layout,
            task="regression",
            layout="1d",
        ),
    )
    assert result.report.verdict == "pass"
    bundle = load_bundle(result.bundle.path)
    assert verify(bundle).verdict == "pass"
    check_answers(bundle, arguments)
    return bundle


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("more", ["use_skip_connections", "use_gate"])
def test_every_form_of_it_keeps_parity(norm, causal, more):
    bundle = exported(use_norm=norm, causal=causal, **{more: True})
    (spec,) = bundle.manifest.signature.outputs
    assert spec.shape == ("batch", 5, STEPS)
    # Two convolutions of every level, three taps, one, two and four steps apart.
    reach = 2 * 2 * (1 + 2 + 4)
    found = bundle.manifest
    assert found.receptive_field == 1 + reach
    assert (found.causal, found.lookahead) == (causal, 0 if causal else reach // 2)
    measured = found.dependence["measured"]
    assert measured["lookback"] == (reach if causal else reach // 2)
    assert measured["lookahead"] == found.lookahead


@pytest.mark.parametrize("told", [None, "NLC"])
def test_steps_before_channels_are_turned(told):
    bundle = exported(told, input_shape="NLC", use_norm="layer_norm")
    assert bundle.manifest.signature.inputs[0].shape == ("batch", 3, STEPS)
    assert bundle.manifest.signature.outputs[0].shape == ("batch", 5, STEPS)
    assert "takes (batch, steps, channels)" in bundle.manifest.source["notes"][0]


@pytest.mark.parametrize(
    ("norm", "causal"), [("batch_norm", True), ("weight_norm", False), ("layer_norm", True)]
)
def test_the_command_exports_it_and_verifies_it(norm, causal):
    arguments = {
        **NETWORK, "use_norm": norm, "causal": causal, "use_skip_connections": True,
        "use_gate": True,
    }  # fmt: skip
    done = run(
        export_command, "--factory", "pytorch_tcn:TCN", "--factory-args",
        json.dumps(arguments), "--input-shape", f"3,{STEPS}", "--target", "onnx", "--task",
        "regression", "--json",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert done.json["bundle"] == "exported/TCN-onnx-float32"
    assert done.json["verified"]
    done = run(verify_command, "exported/TCN-onnx-float32")
    assert done.code == 0, done.stderr


@pytest.mark.parametrize(
    ("hop", "arguments"),
    [
        (1, {"use_norm": "weight_norm", "use_gate": True}),
        (1, {"use_norm": "batch_norm", "use_skip_connections": True}),
        (16, {"use_norm": "layer_norm", "use_gate": True, "use_skip_connections": True}),
        (16, {"causal": False}),
    ],
)
def test_it_streams_exactly_as_it_answers_whole_signals(hop, arguments):
    arguments = {**NETWORK, **arguments}
    options = ExportOptions(
        factory="pytorch_tcn:TCN",
        factory_args=arguments,
        input_shape=(NETWORK["num_inputs"], 48),
        task="regression",
        mode="stream",
        hop=hop,
    )
    result = export(None, options)
    assert result.report.verdict == "pass"
    bundle = load_bundle(result.bundle.path)
    assert bundle.manifest.verified
    assert verify(bundle).verdict == "pass"
    (spec,) = bundle.manifest.signature.outputs
    assert spec.shape == ("batch", 5, hop)
    assert spec.delay == (0 if arguments.get("causal", True) else 14)
    x = np.random.default_rng(1).standard_normal((2, 3, 160)).astype(np.float32)
    session = open_stream(bundle, streams=2)
    parts = [np.array(session.step(part)[spec.name]) for part in np.split(x, 160 // hop, 2)]
    answers = np.concatenate(parts, axis=2)[:, :, spec.delay :]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # as a factory is called
        network = TCN(**arguments).eval()
    assert answers.shape[2] == 160 - spec.delay
    check_equal(answers, network, torch.from_numpy(x))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_trained_weights_come_from_a_file(suffix, folder):
    torch.manual_seed(7)
    network = TCN(**NETWORK)
    if suffix == ".pt":
        torch.save(network.state_dict(), folder / f"own{suffix}")
    else:
        from safetensors.torch import save_file

        save_file(network.state_dict(), folder / f"own{suffix}")
    done = run(
        export_command, f"own{suffix}", "--factory", "pytorch_tcn:TCN", "--factory-args",
        json.dumps(NETWORK), "--input-shape", f"3,{STEPS}", "--target", "onnx", "--layout",
        "1d",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    x = np.random.default_rng(0).standard_normal((2, 3, STEPS)).astype(np.float32)
    got = load_bundle("exported/own-onnx-float32").runner(threads=1).run({"signal": x})
    check_equal(got["logits"], network.eval(), torch.from_numpy(x))
