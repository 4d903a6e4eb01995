"""Who imports what, and what that costs."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

import tcn_export
from tcn_export import extras
from tcn_export.errors import MissingExtraError

COMMANDS = ("train", "export", "verify", "bench", "inspect")
HEAVY = {
    "torch",
    "onnxruntime",
    "onnx",
    "onnx_ir",
    "numpy",
    "rich",
    "lightning",
    "aeon",
    "scipy",
}


def imported_by(code):
    """Top-level modules that a fresh interpreter has after running code."""
    listing = "json.dumps(sorted({m.split('.')[0] for m in sys.modules}))"
    probe = f"{code}\nimport sys, json\nprint({listing})"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command):
    code = (
        "import contextlib, io\n"
        f"from tcn_export.cli.{command} import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main(['--help'])"
    )
    assert not imported_by(code) & HEAVY


def test_package_imports_nothing_heavy():
    assert not imported_by("import tcn_export") & HEAVY


def test_what_a_device_needs_imports_neither_torch_nor_onnx():
    loaded = imported_by(
        "import tcn_export.verification, tcn_export.report.terminal, tcn_export.cli.progress\n"
        "import tcn_export.benchmarking, tcn_export.report.bench_table"
    )
    assert not loaded & {"torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime"}


def test_every_module_can_be_imported():
    names = [m.name for m in pkgutil.walk_packages(tcn_export.__path__, "tcn_export.")]
    assert len(names) > 50
    for name in names:
        __import__(name)


def test_public_names_are_all_there():
    for name in tcn_export.__all__:
        assert getattr(tcn_export, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'quantise'"):
        _ = tcn_export.quantise


@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_missing_extra_names_itself_and_the_command(extra, monkeypatch):
    missing = extras.EXTRAS[extra][-1]
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == missing else True)
    with pytest.raises(
        MissingExtraError, match=f"`{missing}`.*'tcn-export\\[{extra}\\]'"
    ) as e:
        extras.require(extra, "Doing this")
    assert e.value.exit_code == 4


def test_extras_are_those_of_the_package():
    declared = requires("tcn-export") or []
    for extra, packages in extras.EXTRAS.items():
        for package in packages:
            name = package.replace("_", "-")
            assert any(
                line.startswith(name) and f"extra == '{extra}'" in line.replace('"', "'")
                for line in declared
            ) or (extra, package) == ("train", "torch"), (extra, package)


def test_core_needs_three_packages_only():
    core = [line for line in requires("tcn-export") or [] if "extra ==" not in line]
    assert sorted(line.split(">")[0] for line in core) == ["click", "numpy", "rich"]


def test_missing_extra_ends_a_command_with_4():
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': raise ImportError(name)\n"
        "import tcn_export.extras as e\n"
        "real = e.find_spec\n"
        "e.find_spec = lambda name: None if name == 'torch' else real(name)\n"
        "from tcn_export.cli.export import main\n"
        "main(['model.pt', '--target', 'onnx'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "pip install 'tcn-export[export]'" in done.stderr


def test_no_file_is_longer_than_300_lines():
    root = Path(__file__).resolve().parents[1]
    long = {
        str(path.relative_to(root)): lines
        for folder in ("src", "tests", "tools")
        for path in (root / folder).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 300
    }
    assert long == {}
