"""The whole path once, in seconds: what the pre-commit hook runs."""

from __future__ import annotations

from support import run
from tcn_export.cli.export import main as export_command
from tcn_export.cli.verify import main as verify_command


def test_checkpoint_becomes_a_verified_bundle(tiny_model, tmp_path):
    assert run(export_command, tiny_model, "--target", "onnx", "--out", tmp_path).code == 0
    assert run(verify_command, tmp_path / "tiny-onnx-float32").code == 0
