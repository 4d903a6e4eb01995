"""The project's own accuracy-parity check: the committed bundles still give their answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support import run
from tcn_export import load_bundle, machine
from tcn_export.cli.verify import main as verify_command
from tcn_export.parity.golden import golden_from_bytes

REFERENCE = Path(__file__).resolve().parents[1] / "exported" / "reference"
VNNI = {"avx512_vnni", "avx_vnni"}


def test_reference_is_small_enough_to_commit():
    assert sum(p.stat().st_size for p in REFERENCE.rglob("*") if p.is_file()) < 300_000


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_reference_still_computes_the_same(precision):
    if precision == "int8" and not VNNI & set(machine.host()["isa"]):
        pytest.skip("the int8 reference is made for x86 with VNNI, which this machine lacks")
    ran = run(verify_command, REFERENCE / f"basic_motions-onnx-{precision}")
    assert ran.code == 0, ran.stdout


def test_reference_still_gives_the_right_answers():
    """The labels are known beside any golden file: ten windows of each of four activities."""
    bundle = load_bundle(REFERENCE / "basic_motions-onnx-float32")
    golden = golden_from_bytes(bundle.files["golden.npz"])
    windows = golden.windows.answers
    assert np.mean(windows == np.repeat([2, 1, 3, 0], 10)) > 0.9


def test_reference_is_verified_and_names_no_path():
    for bundle in REFERENCE.iterdir():
        loaded = load_bundle(bundle)
        assert loaded.manifest.verified
        for raw in loaded.files.values():
            assert b"/tmp" not in raw
            assert b"site-packages" not in raw
