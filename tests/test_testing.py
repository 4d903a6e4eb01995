from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from bundles import change_one_weight, fit_hashes
from support import run
from tcn_export import load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.errors import BundleError
from tcn_export.testing import assert_parity


def test_bundle_that_computes_the_same_passes(tiny_exports, tiny_data):
    assert assert_parity(tiny_exports["float32"]).verified
    assert assert_parity(load_bundle(tiny_exports["int8"]), data=tiny_data, threads=1).verified


def test_lost_parity_lists_the_rows(tiny_exports, tmp_path):
    bundle = shutil.copytree(tiny_exports["float32"], tmp_path / "b")
    change_one_weight(bundle)
    with pytest.raises(BundleError, match="is not the file that was exported"):
        assert_parity(bundle)
    fit_hashes(bundle)
    with pytest.raises(AssertionError) as caught:
        assert_parity(bundle)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{bundle}: Parity is lost: {len(lines) - 1} of ")
    assert all(line.startswith("  fail ") and "largest error" in line for line in lines[1:])


def test_waived_bundle_passes_only_where_that_is_allowed(tiny_model, tmp_path):
    options = ["--target", "onnx", "--precision", "int8", "--data", "noise"]
    assert run(export_command, tiny_model, *options, "--out", tmp_path, "-q").code == 0
    bundle = tmp_path / "tiny-onnx-int8"
    with pytest.raises(AssertionError, match=r"real data waived.*\n.*allow_waived=True"):
        assert_parity(bundle)
    assert assert_parity(bundle, allow_waived=True).waived == ("real data",)


def test_helper_imports_what_a_device_has():
    code = (
        "import sys, tcn_export.testing\n"
        "heavy = {'torch', 'onnx', 'onnx_ir', 'jinja2', 'pytest', 'onnxruntime'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
