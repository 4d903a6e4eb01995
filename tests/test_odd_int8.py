"""int8 of networks that quantisers stumble over, and of figures that were forged."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from support import run
from tcn_export.bundle import load_bundle
from tcn_export.cli.export import main as export
from tcn_export.cli.verify import main as verify


def exported(out, name, data, *options):
    return run(
        export, "--factory", f"odd_int8_networks:{name}", "--input-shape", "2,24",
        "--target", "onnx", "--layout", "1d", "--data", data, "--out", out, *options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    path = tmp_path_factory.mktemp("odd") / "data.npz"
    np.savez(path, x=np.random.default_rng(0).standard_normal((400, 2, 24), np.float32))
    return path


@pytest.mark.parametrize(("name", "convolutions"), [("Multiplied", 2), ("Stacked", 1)])
def test_odd_layers_are_quantised_or_left_alone(name, convolutions, unlabelled, tmp_path):
    ran = exported(tmp_path, name, unlabelled, "--precision", "int8")
    assert ran.code in (0, 3)  # a verdict, not a fault
    coverage = load_bundle(tmp_path / f"{name}-onnx-int8").manifest.quantization["coverage"]
    assert coverage["integer_convolutions"] == coverage["convolutions"] == convolutions


def test_network_without_anything_for_int8_is_told_so(unlabelled, tmp_path):
    ran = exported(tmp_path, "Scaled", unlabelled, "--precision", "int8")
    assert ran.code == 1
    assert "no operator that int8 computes" in ran.stderr


def test_auto_takes_float32_where_int8_cannot_be_made(unlabelled, tmp_path):
    assert exported(tmp_path, "Scaled", unlabelled, "--precision", "auto").code == 0
    assert load_bundle(tmp_path / "Scaled-onnx-auto").manifest.precision == "float32"


@pytest.mark.parametrize("confidence", [1.0, 0.5, 0.0, -1, 2.0])
def test_forged_confidence_is_refused(confidence, tiny_exports, tiny_data, tmp_path):
    path = shutil.copytree(tiny_exports["int8"], tmp_path / "bundle")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["parity"]["loss"]["confidence"] = confidence
    (path / "manifest.json").write_text(json.dumps(manifest))
    ran = run(verify, path, "--data", tiny_data)
    assert ran.code == 1
    assert "expected 0.95 to 1" in ran.stderr
