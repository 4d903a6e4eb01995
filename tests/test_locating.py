"""The layer that is to blame is found, whatever the fault, the layer and the precision."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest

from layer_faults import FAULTS, planted
from support import TINY_TCN, make_checkpoint, make_data, run
from tcn_export.bundle import load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.locating import locate_layer
from tcn_export.models.resnet1d import ResNet1dConfig
from tcn_export.parity.rows import ParityReport
from tcn_export.targets.segments import run_whole
from user_networks import PLAIN

PRECISIONS = ("float32", "float16", "int8")
RESNET = ResNet1dConfig(
    in_channels=2, outputs=3, widths=(6, 8), strides=(1, 2), blocks=1, kernel_size=3
)
GATED = {**PLAIN, "gate": True, "head": "last"}
NETWORKS = ("tcn", "resnet", "gated")
PASSED = ParityReport(())


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Every network at every precision."""
    out = tmp_path_factory.mktemp("located")
    noise = np.random.default_rng(0).standard_normal((80, 2, 24)).astype(np.float32)
    np.savez(out / "gated.npz", x_train=noise[:40], x_test=noise[40:])
    gated = ["--factory", "user_networks:network", "--factory-args", json.dumps(GATED)]
    for name, config in (("tcn", TINY_TCN), ("resnet", RESNET)):
        make_data(out / f"{name}.npz", make_checkpoint(out / f"{name}.pt", config), 40)
    for name in NETWORKS:
        model = [*gated, "--input-shape", "2,24"] if name == "gated" else [out / f"{name}.pt"]
        for precision in PRECISIONS:
            options = ["--precision", precision, "--data", out / f"{name}.npz", "-q"]
            options += ["--target", "onnx", "--max-drop", 50, "--name", name, "--out", out]
            ran = run(export_command, *model, *options)
            assert ran.code in (0, 3), ran.stderr
    return {
        (name, precision): load_bundle(out / f"{name}-onnx-{precision}")
        for name in NETWORKS
        for precision in PRECISIONS
    }


def changed(bundle, model):
    return replace(bundle, files={**bundle.files, bundle.manifest.model: model})


def computing(model):
    """Names of the nodes that compute, rather than convert."""
    conversions = ("QuantizeLinear", "DequantizeLinear", "Cast")
    nodes = onnx.load_from_string(model).graph.node
    return [node.name for node in nodes if node.op_type not in conversions]


def search(bundle):
    """Plant every fault at every layer: how many were located, how many show nowhere."""
    model, located, unseen = bundle.files[bundle.manifest.model], Counter(), Counter()
    for node in computing(model):
        for fault in FAULTS:
            broken = planted(model, node, fault)
            if broken is None:
                continue
            found = locate_layer(bundle, changed(bundle, broken), PASSED)
            if found.first is None:
                assert same_answers(bundle, model, broken, found), (node, fault)
                unseen[fault] += 1
                continue
            assert found.first.node == node, (node, fault, found.first)
            located[fault] += 1
    return located, unseen


def same_answers(bundle, model, broken, found):
    """Whether a fault shows nowhere on the windows that were run."""
    with np.load(bundle.path / "golden.npz") as golden:
        (name,) = [spec.name for spec in bundle.manifest.signature.inputs]
        feeds = {name: golden[f"{found.feed}/input/{name}"][: found.windows]}
    one, other = (run_whole(m, feeds, is_optimized=False) for m in (model, broken))
    return all(np.allclose(one[key], other[key], rtol=1e-6) for key in one)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_fault_at_every_layer_is_located(network, precision, bundles):
    located, unseen = search(bundles[network, precision])
    assert located.total() > 5 * unseen.total(), (located, unseen)
