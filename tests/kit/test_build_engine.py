"""The script of the device kit, as far as it goes without a device, and its comparison.

Where something has to run, a runner stands in that answers from the golden data: right, wrong,
or not at all. Nothing stands in for TensorRT.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support import run
from targets.tensorrt import api_contract
from tcn_export.bundle import load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.errors import BundleError, OutputError, TargetUnavailableError
from tcn_export.kit import amalgamate, proof, script
from tcn_export.kit.amalgamate import assemble
from tcn_export.parity.rows import ParityReport
from tcn_export.targets.cuda_driver import Device, Driver, ask_driver
from tcn_export.targets.tensorrt.probe import Probe
from tcn_export.targets.tensorrt.sidecar import check_sidecar, make_sidecar, read_sidecar

DEVICE = Device("GPU", "8.9", 8192, is_integrated=False)
no_device = pytest.mark.skipif(bool(ask_driver().devices), reason="there is a CUDA device")


@pytest.fixture(scope="module")
def kits(tmp_path_factory, tiny_model, tiny_data):
    """Device kits of all precisions."""
    out = tmp_path_factory.mktemp("kits")
    for precision in ("float32", "float16", "int8"):
        options = ["--precision", precision, "--data", tiny_data, "--max-drop", 5]
        ran = run(export_command, tiny_model, "--target", "trt", "--out", out, *options, "-q")
        assert ran.code == 4
    return out


def start(kit: Path, *arguments: str, python: str = sys.executable):
    command = [python, kit / "build_engine.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@no_device
def test_it_builds_as_far_as_rtx_goes_and_ends_with_4(kits, rtx, tmp_path):
    kit = shutil.copytree(kits / "tiny-trt-int8", tmp_path / "kit")
    before = sorted(path.name for path in kit.iterdir())
    done = start(kit)
    assert done.returncode == 4, done.stderr
    assert "no CUDA device" in done.stderr
    assert "accepted and built by NVIDIA's code (tensorrt_rtx 1.7" in done.stderr
    assert "the engine was not executed" in done.stderr
    assert sorted(path.name for path in kit.iterdir()) == before, "nothing was written"


@no_device
def test_without_any_tensorrt_it_ends_with_4(kits):
    done = start(kits / "tiny-trt-float32", "--runtime", "tensorrt")
    assert done.returncode == 4
    assert "This script needs an NVIDIA GPU, and TensorRT 10.3 or newer" in done.stderr


def test_it_needs_neither_tcn_export_nor_torch(kits):
    text = (kits / "tiny-trt-float32" / "build_engine.py").read_text()
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert imported - sys.stdlib_module_names == {"numpy"}


def test_its_text_is_python_38_and_touches_what_every_tensorrt_has():
    text = assemble()
    ast.parse(text, feature_version=(3, 8))
    assert api_contract.check({"build_engine.py": text}, api_contract.recorded()) == []
    assert assemble() == text, "equal sources give equal text"


OLD_PYTHON = shutil.which("python3.8")


@pytest.mark.skipif(OLD_PYTHON is None, reason="no Python 3.8 on this machine")
def test_it_runs_under_python_38(kits, tmp_path):
    version = subprocess.run([OLD_PYTHON, "-V"], capture_output=True, text=True, check=False)
    if version.returncode or "3.8" not in version.stdout:
        pytest.skip(f"python3.8 does not start: {version.stderr.strip()}")
    probe = subprocess.run(
        [OLD_PYTHON, "-c", "import numpy"], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip("numpy is not installed for Python 3.8")
    done = start(kits / "tiny-trt-float32", python=OLD_PYTHON)
    assert done.returncode == 4, done.stderr


class GoldenRunner:
    """Answers with the eager model's own float32 outputs, changed by a function."""

    def __init__(self, kit: proof.Kit, change=lambda y: y) -> None:
        self._answers = {
            feed.inputs["signal"].tobytes(): change(
                kit.golden.references[feed.name].float32["logits"]
            )
            for feed in kit.golden.feeds
        }
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def run(self, feeds):
        return {"logits": self._answers[feeds["signal"].tobytes()]}


WRONG = {
    "zeros": np.zeros_like,
    "a factor of two": lambda y: 2 * y,
    "swapped classes": lambda y: y[:, [1, 0, 2, 3]],
    "NaN": lambda y: np.where(y == y.max(), np.nan, y).astype(np.float32),
    "another shape": lambda y: y[:, :3],
    "another dtype": lambda y: y.astype(np.float64),
    "one answer for all": lambda y: np.broadcast_to(y[:1], y.shape).copy(),
}


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_right_answers_pass_within_the_limits_of_the_export(kits, precision):
    kit = proof.Kit(str(kits / f"tiny-trt-{precision}"))
    runner = GoldenRunner(kit)
    report = proof.judge(kit, runner)
    assert report.verdict == "pass", report.failures
    assert runner.resets == len(kit.golden.feeds)
    judged = [
        row for row in report.rows if row.metric not in ("form", "verdict of the export")
    ]
    assert judged
    exported = {
        (row["feed"], row["metric"]): row["limit"]
        for row in kit.manifest["parity"]["rows"]
        if row["stage"] == "on the CPU" and row["limit"] is not None
    }
    if precision != "int8":  # whose golden rows are held to what was recorded
        assert {(r.feed, r.metric): r.limit for r in judged}.items() <= exported.items()


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("fault", WRONG)
def test_wrong_answers_fail(kits, precision, fault):
    kit = proof.Kit(str(kits / f"tiny-trt-{precision}"))
    report = proof.judge(kit, GoldenRunner(kit, WRONG[fault]))
    assert report.verdict == "fail"


def test_a_kit_whose_graph_failed_at_the_export_never_passes(kits, tmp_path):
    folder = shutil.copytree(kits / "tiny-trt-float32", tmp_path / "kit")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parity"]["verdict"] = "fail"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    kit = proof.Kit(str(folder))
    assert proof.judge(kit, GoldenRunner(kit)).verdict == "fail"


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_altered_files_are_refused(kits, tmp_path, name):
    folder = shutil.copytree(kits / "tiny-trt-float32", tmp_path / "kit")
    (folder / name).write_bytes((folder / name).read_bytes() + b"\0")
    done = start(folder)
    assert done.returncode == 1
    assert f"{name} is not the file that was exported" in done.stderr
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} cannot be read"):
        proof.Kit(str(folder))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": {}, "files": {}}'])
def test_damaged_manifests_are_one_kind_of_error(kits, tmp_path, text):
    folder = shutil.copytree(kits / "tiny-trt-float32", tmp_path / "kit")
    (folder / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=r"manifest\.json is damaged|`runtime` .* altered"):
        proof.Kit(str(folder))


def test_streaming_needs_states(kits):
    done = start(kits / "tiny-trt-float32", "--stream")
    assert done.returncode == 2
    assert "it has no states to stream with" in done.stderr


class Summing:
    """Answers with the sum of everything since the last reset, or of this step alone."""

    def __init__(self, carries: bool, forgets: bool = True) -> None:
        self._carries, self._forgets, self._sum = carries, forgets, 0.0

    def reset(self) -> None:
        self._sum = 0.0 if self._forgets else self._sum

    def run(self, feeds):
        before = self._sum if self._carries else 0.0
        self._sum = before + feeds["signal"].sum(dtype=np.float64)
        return {"logits": np.array([[self._sum]])}


def test_a_stream_has_to_carry_its_states_and_to_forget_them(kits):
    kit = proof.Kit(str(kits / "tiny-trt-float32"))
    told = proof.stream(kit, Summing(carries=True))
    assert told["steps"] == 1000
    assert told["median"] > 0
    with pytest.raises(BundleError, match="states are not carried"):
        proof.stream(kit, Summing(carries=False))
    with pytest.raises(BundleError, match="otherwise after a reset"):
        proof.stream(kit, Summing(carries=True, forgets=False))


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda y: y, 0, "verified: model.engine"),
        (np.zeros_like, 3, "PARITY LOST: do not use"),
    ],
)
def test_the_verdict_is_written_with_the_engine(kits, tmp_path, capsys, change, code, words):
    kit = proof.Kit(str(shutil.copytree(kits / "tiny-trt-float32", tmp_path / "kit")))
    plan = b"stands for an engine that a runner has run"
    sidecar = make_sidecar(plan, kit.model, "tensorrt", "10.3", DEVICE, "12.6", kit.settings)
    assert proof.prove(kit, GoldenRunner(kit, change), plan, sidecar, False) == code
    assert words in capsys.readouterr().out
    written = load_bundle(tmp_path / "kit").artifact().files
    told = read_sidecar(written["model.engine.json"])
    assert told["verdict"] == ("pass" if code == 0 else "fail")
    assert told["settings"]["profiles"] == kit.settings["profiles"]
    check_sidecar(told, written["model.engine"], kit.model, "tensorrt", "10.3", DEVICE)
    rows = json.loads((tmp_path / "kit" / "device_report.json").read_text())["rows"]
    assert len(rows) >= len(kit.golden.feeds)
    # built again, on the advice of a sidecar: the bundle stays one
    assert proof.prove(kit, GoldenRunner(kit, change), plan + b"2", sidecar, False) == code
    assert load_bundle(tmp_path / "kit").artifact().files["model.engine"].endswith(b"2")


def test_what_was_waived_at_the_export_is_not_verified_on_the_device(kits, tmp_path, capsys):
    folder = shutil.copytree(kits / "tiny-trt-float32", tmp_path / "kit")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["waived"] = ["real data", "a run on the device"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    kit = proof.Kit(str(folder))
    assert proof.prove(kit, GoldenRunner(kit), b"plan", {}, False) == 0
    told = capsys.readouterr().out
    assert "passed, with real data waived: model.engine" in told
    assert "verified:" not in told


def test_a_folder_that_cannot_be_written_is_an_error(kits, tmp_path):
    folder = shutil.copytree(kits / "tiny-trt-float32", tmp_path / "kit")
    kit = proof.Kit(str(folder))
    kit.folder = str(tmp_path / "gone")
    with pytest.raises(OutputError, match=r"device_report\.json cannot be written"):
        proof.prove(kit, GoldenRunner(kit), b"plan", {}, False)


def test_nothing_in_it_is_evaluated_that_python_38_lacks():
    """Annotations may say what they like; the rest is run."""
    tree = ast.parse(assemble())
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None:
                setattr(node, name, ast.Name("said"))
    run_time = ast.unparse(tree)
    for newer in (r"\bremoveprefix\(", r"\bslots=True", r"\bstrict=(?!True\W+ast)", r" \|= "):
        assert not re.search(newer, run_time), newer
    generic = r"\b(list|dict|tuple|set|type|Callable|Mapping|Sequence|Iterable|Iterator)\[\w"
    assert not re.search(generic, run_time)


def test_wrong_usage_is_2(kits):
    assert start(kits / "tiny-trt-float32", "--runtime", "cuda").returncode == 2


@pytest.mark.parametrize(
    ("version", "expected"), [("8.5.2.2", "--int8"), ("8.6.2", "trtexec --onnx=model.onnx")]
)
def test_an_old_tensorrt_gets_its_trtexec_line(kits, version, expected):
    kit = proof.Kit(str(kits / "tiny-trt-int8"))
    found = Probe(Driver("11.4", (), ""), {"tensorrt": version})
    with pytest.raises(TargetUnavailableError) as error:
        script._choose_runtime(kit, found, "auto")
    assert expected in str(error.value)
    assert "--stronglyTyped" not in str(error.value)
    assert error.value.exit_code == 4


def test_the_report_names_what_failed(kits, capsys):
    kit = proof.Kit(str(kits / "tiny-trt-float32"))
    proof.print_report(proof.judge(kit, GoldenRunner(kit, np.zeros_like)))
    told = capsys.readouterr().out
    assert "FAILED normal logits" in told
    proof.print_report(ParityReport(()))
    assert "0 of 0 checks passed" in capsys.readouterr().out


def test_pieces_that_do_not_fit_together_are_a_bug_of_ours(monkeypatch):
    pieces = tuple(p for p in amalgamate.PIECES if not p.endswith("metrics"))
    monkeypatch.setattr(amalgamate, "PIECES", pieces)
    with pytest.raises(AssertionError, match=r"imports .* from tcn_export\.parity\.metrics"):
        assemble()


def test_two_pieces_cannot_define_one_name():
    joined, definition = amalgamate._Joined(), ast.parse("LIMIT = 1").body[0]
    amalgamate._define(joined, "one", definition)
    amalgamate._define(joined, "one", definition)
    with pytest.raises(AssertionError, match="both one and other define LIMIT"):
        amalgamate._define(joined, "other", definition)
