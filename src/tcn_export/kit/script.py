"""Build the TensorRT engine of this kit on this machine, and prove that it computes the same.

    python3 build_engine.py            builds, compares with golden.npz, writes model.engine
    python3 build_engine.py --stream   then also runs a stream for long, states carried

Needs Python 3.8 or newer, numpy, an NVIDIA GPU and TensorRT 10.3 or newer; neither PyTorch nor
tcn-export. Exit code: 0 built and verified, 1 failed, 2 wrong usage, 3 built but parity was
lost, 4 there is no CUDA device, no TensorRT, or none that supports the device.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from tcn_export.errors import (
    PARITY_FAILED,
    BundleError,
    ExportError,
    TargetUnavailableError,
    UsageError,
)
from tcn_export.kit.proof import KIT_MODEL, Kit, measure, prove
from tcn_export.kit.streaming import STREAM_HOPS, stream, stream_line
from tcn_export.parity.golden import GOLDEN_FILE
from tcn_export.targets.tensorrt.builder import BuildError
from tcn_export.targets.tensorrt.cudart import Cuda
from tcn_export.targets.tensorrt.kernels import convolution_types, kernels_of_engine
from tcn_export.targets.tensorrt.probe import RTX, Probe, probe, version_numbers
from tcn_export.targets.tensorrt.request import make_request
from tcn_export.targets.tensorrt.sidecar import make_sidecar
from tcn_export.targets.tensorrt.trtexec import trtexec_line
from tcn_export.targets.tensorrt.worker import WORKER_FLAG, build_in_child, work

if TYPE_CHECKING:
    from tcn_export.targets.tensorrt.builder import Built

_TIMING_CACHE = "timing.cache"


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
    if options.stream and not kit.is_stream:
        raise UsageError(
            "this kit takes whole windows: it has no states to stream with. Export the model "
            "with --mode stream."
        )
    verdict = kit.manifest["parity"]["verdict"]
    if verdict != "pass":
        why = "NOT DECIDABLE" if verdict == "undecided" else "PARITY LOST"
        print(f"{why} at the export: nothing is built from this kit", file=sys.stderr)
        return PARITY_FAILED
    found = probe()
    module = _choose_runtime(kit, found, options.runtime or kit.settings["runtime"])
    if found.driver.devices:
        kit.check_writable()  # before minutes of building
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
    capture = options.cuda_graph or kit.settings["cuda_graph"]
    runner = kit.runner(trt, built.plan, cuda, capture)
    sidecar = make_sidecar(
        built.plan, kit.model, module, built.version, device, driver, kit.settings
    )

    def describe() -> dict[str, Any]:
        kernels = kernels_of_engine(trt, runner.engine, runner.context)
        told: dict[str, Any] = {
            "convolutions": convolution_types(kernels, [c.name for c in built.convolutions]),
            "latency": {"cuda_graph" if capture else "plain": measure(kit, runner)},
        }
        if not capture:
            told["latency"]["cuda_graph"] = _measure_captured(kit, trt, built.plan, cuda)
        if options.stream:
            told["stream"] = stream(kit, runner, options.stream)
            print(stream_line(told["stream"]))
        return told

    return prove(kit, runner, built.plan, sidecar, describe)


def _measure_captured(kit: Kit, trt: Any, plan: bytes, cuda: Cuda) -> Any:
    """The same, launched as one graph; or why that cannot be."""
    try:
        return measure(kit, kit.runner(trt, plan, cuda, True))
    except ExportError as error:  # not every engine can be captured; the verdict stands
        return str(error)


def _choose_runtime(kit: Kit, found: Probe, wanted: str) -> str:
    """The module to build with.

    Raises:
        TargetUnavailableError: There is none that could build here.
    """
    version = found.libraries.get("tensorrt", "")
    if wanted != "rtx" and found.is_too_old("tensorrt"):
        line = trtexec_line(version, kit.manifest["precision"], kit.settings)
        raise TargetUnavailableError(
            f"TensorRT {version} is too old for this script, which needs 10.3. README.md here "
            f"says how to write {KIT_MODEL} for TensorRT 8. Then build with\n"
            f"  {line}\nand compare the outputs with {GOLDEN_FILE} yourself."
        )
    module, oldest = found.runtime(wanted), kit.settings["version"]
    if module == "tensorrt" and version and version_numbers(version) < version_numbers(oldest):
        raise TargetUnavailableError(
            f"TensorRT {version} is too old for this graph, which was exported for {oldest} "
            "and newer. Export it again with an older --trt-version."
        )
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
    model = os.path.join(kit.folder, KIT_MODEL)
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


def _parse(arguments: list[str]) -> argparse.Namespace:
    command_line = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = os.path.dirname(os.path.abspath(__file__))
    command_line.add_argument(
        "--kit", default=here, metavar="DIR", help="default: this folder"
    )
    command_line.add_argument(
        "--runtime", choices=("auto", "tensorrt", "rtx"), help="default: as exported"
    )
    command_line.add_argument(
        "--stream",
        nargs="?",
        const=STREAM_HOPS,
        type=_count,
        metavar="N",
        help="also run N hops (default: %(const)s) of a signal as one stream",
    )
    command_line.add_argument("--cuda-graph", action="store_true", help="launch as one graph")
    return command_line.parse_args(arguments)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
