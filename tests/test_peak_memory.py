"""Memory of a process that runs a bundle: its own, whatever the process that asks has."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from support import make_checkpoint, run
from tcn_export import peak_memory
from tcn_export.bundle import load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.errors import BundleError
from tcn_export.models.tcn import TCNConfig
from tcn_export.peak_memory import measure_peak_memory, peak_bytes

MB = 2**20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Some 1.4 million weights: more than five megabytes."""
    out = tmp_path_factory.mktemp("memory")
    config = TCNConfig(
        in_channels=3, outputs=4, widths=(480, 480, 480), dilations=(1, 2, 4), head="every"
    )
    model = make_checkpoint(out / "m.pt", config, length=256)
    assert run(export_command, model, "--target", "onnx", "--out", out, "-q").code == 0
    return load_bundle(out / "m-onnx-float32")


def feeds(batch=1):
    return {"signal": np.zeros((batch, 3, 256), np.float32)}


def test_own_share_holds_the_weights_and_the_buffers(bundle):
    one, many = (measure_peak_memory(bundle, 1, feeds(batch)) for batch in (1, 16))
    weights = len(bundle.files["model.onnx"])
    assert weights > 5 * MB
    assert one.own == one.process - one.runtime > weights
    assert one.runtime > 20 * MB
    # What one layer reads and what it writes, of every window.
    assert many.own - one.own > 15 * 2 * 480 * 256 * 4
    assert one.to_json() == {
        "process_bytes": one.process, "runtime_bytes": one.runtime, "own_bytes": one.own,
    }  # fmt: skip


def test_memory_of_the_process_that_asks_is_not_counted(bundle):
    alone = measure_peak_memory(bundle, 1, feeds())
    ballast = np.ones(400 * MB, np.uint8)
    assert peak_bytes() > 400 * MB
    beside = measure_peak_memory(bundle, 1, feeds())
    del ballast
    assert beside.process < 400 * MB
    assert abs(beside.process - alone.process) < 5 * MB


def test_modules_in_the_users_folder_are_not_taken_for_ours(bundle, tmp_path, monkeypatch):
    for name in ("numpy", "json", "tcn_export"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not yours')")
    monkeypatch.chdir(tmp_path)
    assert measure_peak_memory(bundle, 1, feeds()).own > 0


def test_child_that_fails_tells_its_last_words(bundle, tmp_path):
    gone = replace(bundle, path=shutil.copytree(bundle.path, tmp_path / "b"))
    shutil.rmtree(gone.path)
    words = r"memory of .*/b ended with 1 and said: .*BundleError: .* is not a bundle"
    with pytest.raises(BundleError, match=words):
        measure_peak_memory(gone, 1, feeds())


def test_nothing_is_told_where_the_system_does_not_know(bundle, monkeypatch):
    monkeypatch.setattr(peak_memory, "resource", None)
    assert measure_peak_memory(bundle, 1, feeds()) is None
