"""What cannot be located says why, and what to do."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import onnx
import pytest

from support import run
from tcn_export import extras
from tcn_export.bundle import load_bundle
from tcn_export.cli.verify import main as verify_command
from tcn_export.errors import BundleError
from tcn_export.parity.layers import layers_from_bytes


def test_bundle_without_its_layers_says_what_to_do(tiny_exports, tmp_path):
    path = shutil.copytree(tiny_exports["float32"], tmp_path / "old")
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"]["layers.npz"], manifest["parity"]["layers"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert run(verify_command, path).code == 0
    ran = run(verify_command, path, "--locate")
    assert (ran.code, "keeps nothing of its layers" in ran.stderr) == (1, True)
    assert "Export the model again" in ran.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"no model at all", "no ONNX file"),
        ("another input", "it should take signal"),
        ("outside", "weights in another file"),
    ],
)
def test_file_that_is_no_such_model_is_an_error(content, message, tiny_exports, tmp_path):
    bundle, path = load_bundle(tiny_exports["float32"]), tmp_path / "model.onnx"
    model = onnx.load_from_string(bundle.files["model.onnx"])
    if content == "another input":
        for node in model.graph.node:
            node.input[:] = ["wave" if name == "signal" else name for name in node.input]
        model.graph.input[0].name = "wave"
        content = model.SerializeToString()
    elif content == "outside":
        onnx.save(model, path, save_as_external_data=True, size_threshold=0)
    if isinstance(content, bytes):
        path.write_bytes(content)
    for more in ([], ["--locate"]):
        ran = run(verify_command, bundle.path, "--model", path, *more)
        assert (ran.code, message in ran.stderr) == (1, True), ran.stderr


def test_damaged_layers_are_an_error(tiny_exports):
    raw = load_bundle(tiny_exports["float32"]).files["layers.npz"]
    with np.load(io.BytesIO(raw)) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes())
    for changes in (
        {"own": arrays["own"][:-1]},
        {"float32_noise": arrays["float32_noise"][:-1]},
        {"header": np.frombuffer(json.dumps({**header, "own": 3}).encode(), np.uint8)},
        {"header": np.zeros(3, np.uint8)},
    ):
        buffer = io.BytesIO()
        np.savez(buffer, **{**arrays, **changes})
        with pytest.raises(BundleError, match=r"layers\.npz is damaged"):
            layers_from_bytes(buffer.getvalue())


def test_locating_without_the_onnx_package_names_the_extra(tiny_exports, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "onnx" else name)
    ran = run(verify_command, tiny_exports["float32"], "--locate")
    assert ran.code == 4
    assert "Locating a layer needs `onnx`" in ran.stderr
    assert run(verify_command, tiny_exports["float32"]).code == 0


def test_model_changed_in_its_bundle_is_refused_with_the_way_to_judge_it(
    tiny_exports, tmp_path
):
    path = shutil.copytree(tiny_exports["float32"], tmp_path / "changed")
    model = onnx.load_from_string((path / "model.onnx").read_bytes())
    model.doc_string = "by hand"
    onnx.save(model, path / "model.onnx")
    ran = run(verify_command, path, "--locate")
    assert ran.code == 1
    assert "tcn-verify BUNDLE --model FILE --locate" in ran.stderr
