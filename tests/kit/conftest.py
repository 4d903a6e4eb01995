from __future__ import annotations

import pytest

from support import run
from tcn_export.cli.export import main as export_command


@pytest.fixture(scope="module")
def kits(tmp_path_factory, tiny_model, tiny_data):
    """Device kits of all precisions."""
    out = tmp_path_factory.mktemp("kits")
    for precision in ("float32", "float16", "int8"):
        options = ["--precision", precision, "--data", tiny_data, "--max-drop", 5]
        ran = run(export_command, tiny_model, "--target", "trt", "--out", out, *options, "-q")
        assert ran.code == 4
    return out
