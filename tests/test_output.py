"""What lies where the output goes: never half-written, and never lost without consent."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import run
from tcn_export import pipeline
from tcn_export.bench import Latency
from tcn_export.bundle import check_vacant, load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.cli.inspect import main as inspect_command
from tcn_export.errors import BundleError, CheckpointError, DataError, OutputError
from tcn_export.files import check_writable, write_bytes
from tcn_export.npz import load_dataset
from tcn_export.source.checkpoint import load_source


def test_unwritable_output_folder(tiny_model, tmp_path):
    (tmp_path / "file").write_text("")
    ran = run(
        export_command, tiny_model, "--target", "onnx", "--out", tmp_path / "file" / "out"
    )
    assert ran.code in (1, 2)
    assert "cannot be written: Not a directory" in ran.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_folder_of_another_user(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    os.seteuid(65534)
    try:
        check_vacant(closed / "bundle", overwrite=True)
        for ask, kind in (
            (lambda: check_writable(closed / "out"), OutputError),
            (lambda: write_bytes(closed / "model.pt", b""), OutputError),
            (lambda: load_bundle(closed / "bundle"), BundleError),
            (lambda: load_source(closed / "model.pt"), CheckpointError),
            (lambda: load_dataset(closed / "data.npz"), DataError),
        ):
            with pytest.raises(kind, match="Permission denied"):
                ask()
        ran = run(inspect_command, closed / "bundle")
        assert (ran.code, "Permission denied" in ran.stderr) == (1, True)
    finally:
        os.seteuid(0)


def test_folder_that_came_during_the_export_is_kept(tiny_model, tmp_path, monkeypatch):
    precious = tmp_path / "tiny-onnx-float32" / "precious.txt"

    def time_and_meddle(*_):
        precious.parent.mkdir()
        precious.write_text("mine")
        return Latency(1.0, 1.0, 1.0, 1, 1)

    monkeypatch.setattr(pipeline, "measure_latency", lambda *_, **__: time_and_meddle())
    arguments = [tiny_model, "--target", "onnx", "--out", tmp_path]
    for more, message in (([], "already exists"), (["--overwrite"], "is not a bundle")):
        ran = run(export_command, *arguments, *more)
        assert ran.code == 1
        assert message in ran.stderr
        assert precious.read_text() == "mine"
        shutil.rmtree(precious.parent)


def test_existing_bundle_is_kept_without_overwrite(tiny_model, tmp_path):
    arguments = [tiny_model, "--target", "onnx", "--out", tmp_path, "-q"]
    assert run(export_command, *arguments).code == 0
    manifest = (tmp_path / "tiny-onnx-float32" / "manifest.json").read_bytes()
    ran = run(export_command, *arguments)
    assert ran.code == 1
    assert "already exists. Replace it with --overwrite" in ran.stderr
    assert (tmp_path / "tiny-onnx-float32" / "manifest.json").read_bytes() == manifest
    assert run(export_command, *arguments, "--overwrite").code == 0


def test_kill_9_during_an_export_leaves_the_old_bundle(tiny_model, tmp_path):
    command = Path(sys.executable).with_name("tcn-export")
    arguments = [str(tiny_model), "--target", "onnx", "--out", str(tmp_path), "--overwrite"]
    assert run(export_command, *arguments, "-q").code == 0
    bundle = tmp_path / "tiny-onnx-float32"
    before = {p.name: p.read_bytes() for p in bundle.iterdir()}
    process = subprocess.Popen([command, *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:  # kill it when the work is done and only the writing is left
        if line.startswith("Timing"):
            break
    time.sleep(0.001)
    assert process.poll() is None, "it ended before it was killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    loaded = load_bundle(bundle)  # whole: the old one, or the new one in its place
    assert loaded.manifest.verified
    if before["manifest.json"] == (bundle / "manifest.json").read_bytes():
        assert {p.name: p.read_bytes() for p in bundle.iterdir()} == before
    shutil.rmtree(bundle)
    assert run(export_command, *arguments, "-q").code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["tiny-onnx-float32"]
