"""Build the TensorRT engine of this kit on this machine, and prove that it computes the same.

    python3 build_engine.py            builds, compares with golden.npz, writes model.engine
    python3 build_engine.py --stream   then also runs it sample after sample, states carried

Needs Python 3.8 or newer, numpy, an NVIDIA GPU and TensorRT 10.3 or newer; neither PyTorch nor
tcn-export. Exit code: 0 built and verified, 1 failed, 2 wrong usage, 3 built but parity was
lost, 4 there is no CUDA device or no TensorRT here.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import sys
import time
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from tcn_export.errors import (
    PARITY_FAILED,
    BundleError,
    ExportError,
    TargetUnavailableError,
    UsageError,
)
from tcn_export.parity.gate import Gate
from tcn_export.parity.golden import GOLDEN_FILE, Golden, golden_from_bytes
from tcn_export.parity.rows import ParityReport, as_exported, baseline
from tcn_export.targets.tensorrt.builder import BuildError, Built, make_request
from tcn_export.targets.tensorrt.cudart import Cuda
from tcn_export.targets.tensorrt.engine import EngineRunner, largest_batch
from tcn_export.targets.tensorrt.kernels import convolution_types, kernels_of_engine
from tcn_export.targets.tensorrt.probe import RTX, Probe, probe
from tcn_export.targets.tensorrt.sidecar import ENGINE_FILE, SIDECAR_FILE, make_sidecar
from tcn_export.targets.tensorrt.trtexec import OLDEST, trtexec_line, version_numbers
from tcn_export.targets.tensorrt.worker import WORKER_FLAG, build_in_child, work

REPORT_FILE = "device_report.json"
_MODEL_FILE, _MANIFEST_FILE = "model.onnx", "manifest.json"
_TIMING_CACHE = "timing.cache"
_WARM_UP_CALLS, _TIMED_CALLS, _STREAM_STEPS = 20, 200, 1000


def main(arguments: list[str]) -> int:
    """Run the script; the exit code."""
    if arguments[:1] == [WORKER_FLAG]:
        work(arguments[1])
        return 0
    options = _parse(arguments)
    try:
        return build_and_prove(options)
    except ExportError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code


def build_and_prove(options: argparse.Namespace) -> int:
    """Build, compare, write; the exit code.

    Raises:
        ExportError: What its subclasses say; no engine was written then.
    """
    kit = Kit(options.kit)
    if options.stream and not kit.manifest["states"]:
        raise UsageError("this kit takes whole windows: it has no states to stream with.")
    found = probe()
    module = _choose_runtime(kit, found, options.runtime)
    built = _build_kit(kit, module)
    if not found.driver.devices:
        raise TargetUnavailableError(
            f"no CUDA device ({found.driver.problem}). The graph was accepted and built by "
            f"NVIDIA's code ({module} {built.version}, {len(built.convolutions)} "
            f"convolutions, {len(built.plan):,} bytes); the engine was not executed, and "
            "nothing was written. Run this on the device."
        )
    trt, cuda = importlib.import_module(module), Cuda()
    device, driver = found.driver.devices[0], found.driver.version
    print(f"device: {device.name}, SM {device.compute_capability}, driver {driver}")
    runner = kit.runner(trt, built.plan, cuda, options.cuda_graph)
    report = judge(kit, runner)
    print_report(report)
    names = [convolution.name for convolution in built.convolutions]
    told = {
        "verdict": report.verdict,
        "rows": [row.to_json() for row in report.rows],
        "convolutions": convolution_types(kernels_of_engine(trt, runner.engine), names),
        "latency_us": measure(kit, runner, options.cuda_graph),
    }
    if options.stream:
        told["stream"] = stream(kit, runner)
    print(json.dumps({key: told[key] for key in told if key != "rows"}, indent=2))
    sidecar = make_sidecar(built.plan, kit.model, module, built.version, device, driver)
    _write(kit, ENGINE_FILE, built.plan)
    _write(kit, SIDECAR_FILE, json.dumps({**sidecar, **told}, indent=2).encode())
    _write(kit, REPORT_FILE, json.dumps(told, indent=2).encode())
    print("verified" if report.verdict == "pass" else "PARITY LOST", "-", ENGINE_FILE)
    return 0 if report.verdict == "pass" else PARITY_FAILED


class Kit:
    """The files of a kit, held to the hashes of its manifest.

    Raises:
        BundleError: A file is missing or was altered.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        try:
            self.manifest = json.loads(self._read(_MANIFEST_FILE))
            self.settings = self.manifest["settings"]
            hashes = self.manifest["files"]
            self.model, golden = (
                self._checked(name, hashes[name]) for name in (_MODEL_FILE, GOLDEN_FILE)
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{_MANIFEST_FILE} is damaged: {error!r}.") from error
        self.golden: Golden = golden_from_bytes(golden)

    def runner(self, trt: Any, plan: bytes, cuda: Cuda, cuda_graph: bool) -> EngineRunner:
        """Load an engine of this kit."""
        states = [(state["input"], state["output"]) for state in self.manifest["states"]]
        largest = largest_batch(self.settings["profiles"])
        return EngineRunner(trt, plan, cuda, states, cuda_graph, largest)

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


def judge(kit: Kit, runner: Any) -> ParityReport:
    """Run every golden feed and hold the outputs to the limits of the export.

    Args:
        kit: Gives feeds, the eager model's answers and the limits.
        runner: Has ``run(feeds) -> outputs`` and ``reset()``.
    """
    manifest = kit.manifest
    outputs = [SimpleNamespace(**spec) for spec in manifest["outputs"]]
    gate = Gate(
        manifest["precision"],
        cast("Any", SimpleNamespace(outputs=outputs)),
        manifest["task"] == "classification",
        baseline(manifest["parity"]["rows"]),
    )
    rows = [as_exported("verdict of the export", manifest["parity"]["verdict"], "pass")]
    for feed in kit.golden.feeds:
        runner.reset()
        rows += gate.judge(feed, runner.run(feed.inputs), kit.golden.references[feed.name])
    return ParityReport(tuple(rows))


def measure(kit: Kit, runner: Any, cuda_graph: bool) -> dict[str, Any]:
    """Median and p99 of one window, from host to host, in microseconds."""
    inputs = {name: array[:1] for name, array in kit.golden.feeds[0].inputs.items()}
    runner.reset()
    return {"cuda_graph": cuda_graph, **_time(lambda: runner.run(inputs), _TIMED_CALLS)}


def stream(kit: Kit, runner: Any) -> dict[str, Any]:
    """Run many steps with carried states; their time, and that a reset repeats them."""
    rng = np.random.default_rng(0)
    shapes = {
        spec["name"]: [1 if isinstance(n, str) else n for n in spec["shape"]]
        for spec in kit.manifest["inputs"]
    }
    chunks = [
        {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(_STREAM_STEPS)
    ]
    passes = []
    for _ in range(2):
        runner.reset()
        passes.append([runner.run(chunk) for chunk in chunks])
    repeats = all(
        np.array_equal(one[name], other[name])
        for one, other in zip(*passes)  # noqa: B905 - Python 3.8
        for name in one
    )
    if not repeats:
        raise BundleError(
            "the stream answers otherwise after a reset: states are not carried."
        )
    runner.reset()
    waiting = iter(chunks)
    return {"steps": _STREAM_STEPS, **_time(lambda: runner.run(next(waiting)), _STREAM_STEPS)}


def print_report(report: ParityReport) -> None:
    """One line per comparison that failed, and how many passed."""
    for row in report.failures:
        print(f"FAILED {row.feed} {row.output} {row.metric}: {row.value} {row.relation} "
              f"{row.limit}")  # fmt: skip
    print(f"{len(report.rows) - len(report.failures)} of {len(report.rows)} checks passed")


def _time(call: Any, calls: int) -> dict[str, float]:
    warm_up = min(_WARM_UP_CALLS, calls // 10)
    seconds = []
    for index in range(calls):
        start = time.perf_counter()
        call()
        if index >= warm_up:
            seconds.append(time.perf_counter() - start)
    median, p99 = np.percentile(seconds, [50, 99]) * 1e6
    return {"median": round(float(median), 1), "p99": round(float(p99), 1)}


def _choose_runtime(kit: Kit, found: Probe, wanted: str) -> str:
    """The module to build with.

    Raises:
        TargetUnavailableError: There is none that could build here.
    """
    version = found.libraries.get("tensorrt", "")
    if wanted != "rtx" and version and version_numbers(version) < OLDEST:
        line = trtexec_line(version, kit.manifest["precision"], kit.settings)
        raise TargetUnavailableError(
            f"TensorRT {version} is too old for this script, which needs 10.3. Build with\n"
            f"  {line}\nand compare the outputs with {GOLDEN_FILE} yourself."
        )
    module = found.runtime(wanted)
    if not found.driver.devices and wanted == "auto" and RTX in found.libraries:
        return RTX  # the one that builds without a device
    if module is None or (not found.driver.devices and module != RTX):
        reason = found.why_not(wanted)
        raise TargetUnavailableError(
            f"{reason}. This script needs an NVIDIA GPU, and TensorRT 10.3 or newer for this "
            f"Python ({sys.version.split()[0]}). On a Jetson TensorRT belongs to the system's "
            "Python: python3 -c 'import tensorrt'."
        )
    return module


def _build_kit(kit: Kit, module: str) -> Built:
    model = os.path.join(kit.folder, _MODEL_FILE)
    cache = os.path.join(kit.folder, _TIMING_CACHE)
    request = make_request(model, module, kit.settings, cache)
    start, last = time.monotonic(), [0.0]

    def report(share: float) -> None:
        elapsed = time.monotonic() - start
        if share > last[0] + 0.1:
            last[0] = share
            left = elapsed / share - elapsed
            print(f"building: {share:.0%}, about {left:.0f} s left", file=sys.stderr)

    try:
        return build_in_child(request, report)
    except BuildError as error:
        raise BundleError(f"NVIDIA's parser or builder refuses the graph: {error}") from error


def _write(kit: Kit, name: str, content: bytes) -> None:
    temporary = os.path.join(kit.folder, f".{name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        os.fsync(file.fileno())
    os.replace(temporary, os.path.join(kit.folder, name))


def _parse(arguments: list[str]) -> argparse.Namespace:
    command_line = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = os.path.dirname(os.path.abspath(__file__))
    command_line.add_argument(
        "--kit", default=here, metavar="DIR", help="default: this folder"
    )
    command_line.add_argument("--runtime", choices=("auto", "tensorrt", "rtx"), default="auto")
    command_line.add_argument("--stream", action="store_true", help="also run step by step")
    command_line.add_argument("--cuda-graph", action="store_true", help="launch as one graph")
    return command_line.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
