"""The proof of an engine on its device: golden data, limits of the export, what is written.

Part of ``build_engine.py``: Python 3.8, numpy and the standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from tcn_export.bench import measure_latency
from tcn_export.errors import PARITY_FAILED, BundleError, OutputError
from tcn_export.parity.gate import Gate
from tcn_export.parity.golden import GOLDEN_FILE, Golden, golden_from_bytes
from tcn_export.parity.rows import ParityReport, baseline, judge_export, remaining
from tcn_export.targets.streamed import StreamedRunner, chunks
from tcn_export.targets.tensorrt.engine import EngineRunner, largest_batch
from tcn_export.targets.tensorrt.request import check_settings
from tcn_export.targets.tensorrt.sidecar import ENGINE_FILE, SIDECAR_FILE

if TYPE_CHECKING:
    from tcn_export.graph import Signature
    from tcn_export.targets.tensorrt.cudart import Cuda

REPORT_FILE = "device_report.json"
KIT_MODEL, _MANIFEST_FILE = "model.onnx", "manifest.json"
_MANIFEST_SCHEMA = 1  # of the manifest
_PRECISIONS = ("float32", "float16", "int8")


class Kit:
    """The files of a kit, held to the hashes of its manifest.

    Raises:
        BundleError: A file is missing or was altered.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        try:
            self.manifest = json.loads(self._read(_MANIFEST_FILE))
            self.settings = check_settings(self.manifest["settings"])
            hashes = self.manifest["files"]
            self.states = _checked_states(self.manifest)
            self.signature = _signature(self.manifest)
            self.model, golden = (
                self._checked(name, hashes[name]) for name in (KIT_MODEL, GOLDEN_FILE)
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"{_MANIFEST_FILE} is damaged: {error!r}.") from error
        if self.manifest.get("schema") != _MANIFEST_SCHEMA:
            raise BundleError(
                f"{_MANIFEST_FILE} has the schema {self.manifest.get('schema')!r}; this "
                f"script reads {_MANIFEST_SCHEMA}. It was altered; export the model again."
            )
        self.golden: Golden = golden_from_bytes(golden)

    def runner(self, trt: Any, plan: bytes, cuda: Cuda, cuda_graph: bool) -> EngineRunner:
        """Load an engine of this kit."""
        largest = largest_batch(self.settings["profiles"], self.states)
        core = self.settings["dla_core"]
        return EngineRunner(trt, plan, cuda, self.states, cuda_graph, largest, core)

    @property
    def is_stream(self) -> bool:
        """Whether the network takes one hop of a signal at a time."""
        return bool(self.manifest["mode"] == "stream")

    @property
    def hop(self) -> int:
        """Steps that a stream takes at a time."""
        hop: int = self.manifest["hop"]
        return hop

    def check_writable(self) -> None:
        """Raise `OutputError` where nothing can be written beside the kit's files."""
        _write(self, REPORT_FILE, b"{}")

    def _checked(self, name: str, digest: str) -> bytes:
        content = self._read(name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise BundleError(f"{name} is not the file that was exported. Copy the kit again.")
        return content

    def _read(self, name: str) -> bytes:
        try:
            with open(os.path.join(self.folder, name), "rb") as file:
                return file.read()
        except OSError as error:
            raise BundleError(f"{name} cannot be read: {error.strerror}.") from error


def _checked_states(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Input and output name of every state, of a manifest whose form is checked here.

    Raises:
        ValueError: A field has a value that it cannot have.
        KeyError: A field is missing.
    """
    for name in ("inputs", "outputs", "parity", "task", "mode"):
        manifest[name]  # raises where it is missing
    if manifest["mode"] == "stream" and not (
        isinstance(manifest["hop"], int) and manifest["hop"] >= 1
    ):
        raise ValueError(f"hop {manifest['hop']!r}")
    if manifest["precision"] not in _PRECISIONS:
        raise ValueError(f"precision {manifest['precision']!r}")
    if not all(isinstance(check, str) for check in manifest["waived"]):
        raise ValueError(f"waived {manifest['waived']!r}")
    return [(str(state["input"]), str(state["output"])) for state in manifest["states"]]


def _signature(manifest: Mapping[str, Any]) -> Signature:
    """Inputs and outputs as `Gate` and `StreamedRunner` want them."""
    sides = {
        side: [SimpleNamespace(**{"delay": 0, **spec}) for spec in manifest[side]]
        for side in ("inputs", "outputs")
    }
    return cast("Signature", SimpleNamespace(**sides))


def prove(
    kit: Kit,
    runner: Any,
    plan: bytes,
    sidecar: dict[str, Any],
    describe: Callable[[], dict[str, Any]] = dict,
) -> int:
    """Judge an engine that runs, and write it if it computes the same; the exit code.

    Args:
        kit: Gives feeds, the eager model's answers and the limits.
        runner: Has ``run(feeds) -> outputs`` and ``reset()``; of a stream it takes hops.
        plan: The engine.
        sidecar: For what it was built; what ``describe`` finds is added.
        describe: Asked after the verdict, which does not hang on it: layers, latency.
    """
    report = judge(kit, runner)
    print_report(report)
    told = {**sidecar, "verdict": report.verdict, "waived": list(report.waived), **describe()}
    print(json.dumps(told, indent=2))
    rows = [row.to_json() for row in report.rows]
    _write(kit, REPORT_FILE, json.dumps({**told, "rows": rows}, indent=2).encode())
    if report.verdict != "pass":
        print(f"PARITY LOST: no {ENGINE_FILE} was written; {REPORT_FILE} says what failed")
        return PARITY_FAILED
    _write(kit, ENGINE_FILE, plan)
    _write(kit, SIDECAR_FILE, json.dumps(told, indent=2).encode())
    waived = f"passed, with {', '.join(report.waived)} waived"
    print(f"{'verified' if report.verified else waived}: {ENGINE_FILE}")
    return 0


def judge(kit: Kit, runner: Any) -> ParityReport:
    """Run every golden feed and hold the outputs to the limits of the export.

    Args:
        kit: Gives feeds, the eager model's answers and the limits.
        runner: Has ``run(feeds) -> outputs`` and ``reset()``; of a stream it takes hops.
    """
    manifest = kit.manifest
    gate = Gate(
        manifest["precision"],
        kit.signature,
        manifest["task"] == "classification",
        baseline(manifest["parity"]["rows"]),
    )
    whole = StreamedRunner(runner, kit.signature) if kit.is_stream else runner
    rows = [judge_export(manifest["parity"])]
    rows += gate.judge_golden(kit.golden, whole)
    return ParityReport(tuple(rows), remaining(manifest["waived"]))


def measure(kit: Kit, runner: Any) -> dict[str, Any]:
    """Latency of one window, or of one hop of a stream, from host to host."""
    inputs = {name: array[:1] for name, array in kit.golden.feeds[0].inputs.items()}
    if kit.is_stream:
        inputs = chunks(kit.signature, inputs, 0)
    runner.reset()
    return measure_latency(runner, inputs, 0).to_json()


def print_report(report: ParityReport) -> None:
    """One line per comparison that failed, and how many passed."""
    for row in report.failures:
        print(f"FAILED {row.feed} {row.output} {row.metric}: {row.value} {row.relation} "
              f"{row.limit}")  # fmt: skip
    judged = [row for row in report.rows if row.status in ("pass", "fail")]
    print(f"{len(judged) - len(report.failures)} of {len(judged)} checks passed")


def _write(kit: Kit, name: str, content: bytes) -> None:
    temporary = os.path.join(kit.folder, f".{name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            os.fsync(file.fileno())
        os.replace(temporary, os.path.join(kit.folder, name))
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        raise OutputError(f"{name} cannot be written: {error.strerror}.") from error
