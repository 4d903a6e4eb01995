"""The comparison on the device, with runners that answer right, wrong, or forget.

They stand for an engine that runs; nothing stands in for TensorRT.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from tcn_export.bundle import load_bundle, write_bundle
from tcn_export.errors import OutputError
from tcn_export.kit import proof
from tcn_export.parity.rows import ParityReport
from tcn_export.targets.cuda_driver import Device
from tcn_export.targets.tensorrt.sidecar import check_sidecar, make_sidecar, read_sidecar

DEVICE = Device("GPU", "8.9", 8192, is_integrated=False)


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


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda y: y, 0, "verified: model.engine"),
        (np.zeros_like, 3, "PARITY LOST: no model.engine was written"),
    ],
)
def test_the_verdict_is_written_with_the_engine(kits, tmp_path, capsys, change, code, words):
    kit = proof.Kit(str(shutil.copytree(kits / "tiny-trt-float32", tmp_path / "kit")))
    plan = b"stands for an engine that a runner has run"
    sidecar = make_sidecar(plan, kit.model, "tensorrt", "10.3", DEVICE, "12.6", kit.settings)
    assert proof.prove(kit, GoldenRunner(kit, change), plan, sidecar) == code
    assert words in capsys.readouterr().out
    rows = json.loads((tmp_path / "kit" / "device_report.json").read_text())["rows"]
    assert len(rows) >= len(kit.golden.feeds)
    written = load_bundle(tmp_path / "kit").artifact().files
    if code:
        assert "model.engine" not in written, "what lost parity is not left to be used"
        return
    told = read_sidecar(written["model.engine.json"])
    assert told["verdict"] == "pass"
    assert told["settings"]["profiles"] == kit.settings["profiles"]
    check_sidecar(told, written["model.engine"], kit.model, "tensorrt", "10.3", DEVICE)
    # built again, on the advice of a sidecar: the bundle stays one
    assert proof.prove(kit, GoldenRunner(kit, change), plan + b"2", sidecar) == code
    assert load_bundle(tmp_path / "kit").artifact().files["model.engine"].endswith(b"2")


def test_what_was_waived_at_the_export_is_not_verified_on_the_device(kits, tmp_path, capsys):
    folder = shutil.copytree(kits / "tiny-trt-float32", tmp_path / "kit")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["waived"] = ["real data", "a run on the device"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    kit = proof.Kit(str(folder))
    assert proof.prove(kit, GoldenRunner(kit), b"plan", {}) == 0
    told = capsys.readouterr().out
    assert "passed, with real data waived: model.engine" in told
    assert "verified:" not in told


def test_a_folder_that_cannot_be_written_is_an_error(kits, tmp_path):
    folder = shutil.copytree(kits / "tiny-trt-float32", tmp_path / "kit")
    kit = proof.Kit(str(folder))
    kit.folder = str(tmp_path / "gone")
    with pytest.raises(OutputError, match=r"device_report\.json cannot be written"):
        proof.prove(kit, GoldenRunner(kit), b"plan", {})


def test_the_report_names_what_failed(kits, capsys):
    kit = proof.Kit(str(kits / "tiny-trt-float32"))
    proof.print_report(proof.judge(kit, GoldenRunner(kit, np.zeros_like)))
    told = capsys.readouterr().out
    assert "FAILED normal logits" in told
    proof.print_report(ParityReport(()))
    assert "0 of 0 checks passed" in capsys.readouterr().out


def test_an_engine_that_the_export_wrote_may_be_built_again(kits, tmp_path):
    """With a device the export writes engine and sidecar; the manifest lists neither."""
    bundle = load_bundle(kits / "tiny-trt-float32")
    files = {**bundle.files, "model.engine": b"one", "model.engine.json": b"{}"}
    written = write_bundle(tmp_path / "again", bundle.manifest, files, overwrite=False)
    assert not {"model.engine", "model.engine.json"} & set(written.manifest.files)
    (tmp_path / "again" / "model.engine").write_bytes(b"two")
    assert load_bundle(tmp_path / "again").artifact().files["model.engine"] == b"two"


def test_an_int8_engine_that_fails_at_batch_1_only_is_not_verified(kits):
    kit = proof.Kit(str(kits / "tiny-trt-int8"))
    alone = GoldenRunner(kit, lambda y: np.zeros_like(y) if len(y) == 1 else y)
    report = proof.judge(kit, alone)
    assert {row.feed for row in report.failures} == {"real_alone"}
