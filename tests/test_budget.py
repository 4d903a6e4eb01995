"""int8 within a budget, through the real commands."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from fragile_networks import Fragile, TwoHeads, recordings, trained
from support import run
from tcn_export.bundle import load_bundle
from tcn_export.choosing import PAYS
from tcn_export.cli.export import main as export
from tcn_export.cli.inspect import main as inspect
from tcn_export.cli.verify import main as verify

NETWORKS = {
    "Fragile": ("{}", Fragile),
    "shared": ('{"shared": true}', lambda: Fragile(shared=True)),
    "TwoHeads": ("{}", TwoHeads),
}


@pytest.fixture(scope="module")
def fragile(tmp_path_factory):
    """Weights of each network, and the windows: their paths, by name."""
    folder = tmp_path_factory.mktemp("fragile")
    (x, y), (x_test, y_test) = recordings(600, seed=2), recordings(2000, seed=3)
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    for name, (_, make) in NETWORKS.items():
        torch.save(trained(make()).state_dict(), folder / f"{name}.pt")
    return folder


def exported(folder, out, name, *options):
    arguments, make = NETWORKS[name]
    factory = make.__name__ if isinstance(make, type) else "Fragile"
    ran = run(
        export, folder / f"{name}.pt", "--factory", f"fragile_networks:{factory}",
        "--factory-args", arguments, "--input-shape", "2,64", "--target", "onnx",
        "--data", folder / "data.npz", "--out", out, *options,
    )  # fmt: skip
    (path,) = out.iterdir()
    return ran, load_bundle(path)


class _Batches(CalibrationDataReader):
    def __init__(self, name):
        x, _ = recordings(600, seed=2)
        self._feeds = iter([{name: part} for part in np.array_split(x, 10)])

    def get_next(self):
        return next(self._feeds, None)


def test_the_runtime_s_own_default_loses_more_than_five_points(fragile, tmp_path):
    _, bundle = exported(fragile, tmp_path / "bundles", "Fragile", "--layout", "1d")
    plain, naive = bundle.path / "model.onnx", tmp_path / "naive.onnx"
    name = bundle.manifest.signature.inputs[0].name
    quantize_static(plain, naive, _Batches(name))  # per tensor, min-max
    x, y = recordings(2000, seed=3)
    right = [
        (ort.InferenceSession(path).run(None, {name: x})[0].argmax(1) == y).mean()
        for path in (plain, naive)
    ]
    assert right[0] > 0.97
    assert right[0] - right[1] > 0.05


def test_int8_alone_loses_too_much_and_says_so(fragile, tmp_path):
    ran, bundle = exported(fragile, tmp_path, "Fragile", "--precision", "int8", "--int8-only")
    assert ran.code == 3
    assert "PARITY LOST" in ran.stdout
    assert bundle.manifest.parity["loss"]["lost_points"] > 5
    assert bundle.manifest.quantization["budget"] is None


def test_better_quantisation_comes_before_layers_in_float(fragile, tmp_path):
    ran, bundle = exported(fragile, tmp_path, "Fragile", "--precision", "int8")
    assert ran.code == 0
    told = bundle.manifest.quantization
    assert told["equalized"]
    assert told["in_float"] == []
    assert told["coverage"]["integer_convolutions"] == told["coverage"]["convolutions"] == 3
    assert bundle.manifest.parity["loss"]["upper_points"] <= 1
    assert run(verify, bundle.path, "--data", fragile / "data.npz").code == 0


def test_fewest_layers_stay_in_float_where_nothing_else_helps(fragile, tmp_path):
    options = ("--precision", "int8", "--max-drop", "0.4")
    ran, bundle = exported(fragile, tmp_path, "shared", *options)
    assert ran.code == 0
    told, budget = bundle.manifest.quantization, bundle.manifest.quantization["budget"]
    kept = set(budget["in_float"])
    assert 0 < len(kept) < len(budget["layers"])
    assert kept == set(told["in_float"])
    worst = [entry["layer"] for entry in budget["layers"]]
    assert kept == set(worst[: len(kept)])
    noise = [float(entry["sqnr_db"]) for entry in budget["layers"]]
    assert noise == sorted(noise)
    judged = budget["tried"][1:]
    assert len(judged) <= budget["looks"]
    assert any(t["in_float"] == len(kept) and t["verdict"] == "pass" for t in judged)
    assert not any(t["in_float"] < len(kept) and t["verdict"] == "pass" for t in judged)
    # several were judged on the same windows, so the bound is wider
    loss = bundle.manifest.parity["loss"]
    assert loss["confidence"] == pytest.approx(1 - 0.05 / budget["looks"])
    assert set(budget["latency_us"]) == {"float32", "int8", "chosen"}
    page = run(inspect, bundle.path).stdout
    assert f"kept in float32: {', '.join(told['in_float'])}" in page


def test_where_nothing_meets_the_budget_the_best_is_told(fragile, tmp_path):
    ran, bundle = exported(fragile, tmp_path, "TwoHeads", "--precision", "int8")
    assert ran.code == 3
    budget = bundle.manifest.quantization["budget"]
    assert {entry["verdict"] for entry in budget["tried"]} == {"fail"}
    judged = budget["tried"][1:]
    assert max(entry["in_float"] for entry in judged) == len(budget["layers"]) - 1
    best = min(entry["upper_points"] for entry in judged)
    assert bundle.manifest.parity["loss"]["upper_points"] == pytest.approx(best, abs=0.1)
    assert not bundle.manifest.verified


def test_auto_takes_the_fastest_that_passes(fragile, tmp_path):
    ran, bundle = exported(fragile, tmp_path, "Fragile", "--precision", "auto")
    assert ran.code == 0
    assert bundle.path.name == "Fragile-onnx-auto"
    plain, int8 = bundle.manifest.candidates
    pays = plain["median_us"] / int8["median_us"] >= PAYS
    assert (plain["chosen"], int8["chosen"]) == (not pays, pays)
    assert bundle.manifest.precision == ("int8" if pays else "float32")
    assert "under the 1.1x that pays" in int8["reason"] or pays


def test_auto_says_what_spoke_against_int8(fragile, tmp_path):
    ran, bundle = exported(fragile, tmp_path, "Fragile", "--precision", "auto", "--int8-only")
    assert ran.code == 0
    plain, int8 = bundle.manifest.candidates
    assert plain["chosen"]
    assert bundle.manifest.precision == "float32"
    assert int8["verdict"] == "fail"
    assert int8["reason"].startswith("int8 rejected: it may lose ")
    assert int8["reason"] in ran.stdout


def test_auto_is_for_this_machine_s_cpu(fragile):
    ran = run(
        export, fragile / "Fragile.pt", "--target", "trt", "--precision", "auto",
        "--data", fragile / "data.npz",
    )  # fmt: skip
    assert ran.code == 2
    assert "says nothing about the target trt" in ran.stderr
