"""Device kits on a GPU by TensorRT 8.6: runner, states, CUDA graphs and gate, on real engines.

    python tools/tensorrt8_kits.py DIR --checkpoint MODEL.pt WINDOWS.npz     anywhere
    python3.10 tools/tensorrt8.py DIR [--only NAME] [--seconds N]            on the GPU

TensorRT 8.6 is the newest full TensorRT on the public package index (``pip install
tensorrt==8.6.0 numpy``, Python 3.10 or older), and takes data-centre GPUs that TensorRT for
RTX refuses. It has no strong typing, so ``build_engine.py`` does not build with it: here a
builder of its own allows float16 or int8 by flags, as trtexec does on JetPack 6.0, and the
graph is what `write_for_tensorrt8` makes of the kit's. The rest is what a Jetson runs:
`EngineRunner`, its CUDA calls, golden data, the gate. It says nothing of
`targets.tensorrt.builder`, nor of the kernels that TensorRT 10 chooses.

Make the kits where ``tensorrt_rtx`` is installed: its parser names the convolutions.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tcn_export.bench import measure_latency
from tcn_export.errors import ExportError
from tcn_export.kit.proof import KIT_MODEL, Kit, judge, measure
from tcn_export.parity.tolerance import float32_limit
from tcn_export.targets.tensorrt.cudart import Cuda
from tcn_export.targets.tensorrt.engine import EngineRunner
from tcn_export.targets.tensorrt.journal import Journal, make_logger
from tcn_export.targets.tensorrt.kernels import (
    convolution_types,
    count_reformats,
    kernels_of_engine,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPES = {"tcn_har": (9, 512), "tcn_wide": (16, 1024), "resnet_ecg": (12, 1000)}
OLD_MODEL, UNTOUCHED, SIGNAL = "model17.onnx", "untouched.onnx", "signal.npz"
STATEFUL, FIGURES = "stateful.onnx", "figures.json"
STEPS, STREAMS = 10_000, 2
WORKSPACE = 2**28
TIMINGS = Path(tempfile.gettempdir()) / "tensorrt8.timing"


def build(trt: Any, model: Path, precision: str, profiles: dict[str, Any]) -> bytes:
    """Build a weakly typed engine in which ``precision`` is allowed.

    Raises:
        RuntimeError: The parser or the builder refused, in NVIDIA's words.
    """
    journal = Journal()
    logger = make_logger(trt, journal)
    builder = trt.Builder(logger)
    network = builder.create_network(
        1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    )
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.read_bytes()):
        told = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise RuntimeError("; ".join(told) or journal.problems())
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)
    # Neither cuBLAS nor cuDNN: on a Jetson no kit needs them either.
    sources = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
    config.set_tactic_sources(sum(1 << int(source) for source in sources))
    for flag in {"float16": ("FP16",), "int8": ("INT8",)}.get(precision, ()):
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if profiles:
        profile = builder.create_optimization_profile()
        for name, shapes in profiles.items():
            profile.set_shape(name, *shapes)
        config.add_optimization_profile(profile)
    cache = config.create_timing_cache(TIMINGS.read_bytes() if TIMINGS.exists() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError(journal.problems())
    TIMINGS.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def run(folder: Path, seconds: float, only: list[str]) -> None:
    """The stream, every kit and the untouched networks; figures are kept one by one."""
    trt = import_module("tensorrt")
    cuda, end = Cuda(), time.monotonic() + seconds
    told: dict[str, Any] = {"tensorrt": trt.__version__}
    acts = {
        f"stream, CUDA graph {graph}": partial(stream, trt, cuda, folder, graph)
        for graph in (False, True)
    }
    kits = [path.parent for path in folder.glob("*/manifest.json")]
    acts |= {kit.name: partial(prove, trt, cuda, kit) for kit in sorted(kits, key=by_size)}
    acts |= {
        f"{name} untouched": partial(time_untouched, trt, cuda, folder, name)
        for name in SHAPES
    }
    for name, act in acts.items():
        if only and name not in only:
            continue
        try:
            told[name] = act() if time.monotonic() < end else {"error": "no time was left"}
        except (ExportError, RuntimeError) as error:  # one refusal does not end the others
            told[name] = {"error": f"{type(error).__name__}: {error}"}
        print(name, json.dumps({k: v for k, v in told[name].items() if k != "account"}))
        sys.stdout.flush()
        (folder / FIGURES).write_text(json.dumps(told, indent=1))


def by_size(kit: Path) -> int:
    """Small networks first."""
    return (kit / KIT_MODEL).stat().st_size


def prove(trt: Any, cuda: Cuda, folder: Path) -> dict[str, Any]:
    """Judge a kit's graph by its own golden data and limits.

    Raises:
        RuntimeError: NVIDIA's parser or builder refused it.
        ExportError: The kit is damaged, or its engine does not run here.
    """
    kit = Kit(str(folder))
    precision = kit.manifest["precision"]
    start = time.perf_counter()
    plan = build(trt, folder / OLD_MODEL, precision, kit.settings["profiles"])
    seconds = time.perf_counter() - start
    plain, captured = (kit.runner(trt, plan, cuda, graph) for graph in (False, True))
    report, again = judge(kit, plain), judge(kit, captured)
    kernels = kernels_of_engine(trt, plain.engine, plain.context)
    names = kit.manifest["builder"].get("convolutions", ())
    rows = {(row.metric, row.relation) for row in report.rows}
    return {
        "verdict": [report.verdict, again.verdict],
        "failures": [row.to_json() for row in report.failures],
        "worst": [worst(report.rows, *key) for key in sorted(rows)],
        "convolutions": convolution_types(kernels, names),
        "kernels": len(kernels),
        "reformats": count_reformats(kernels),
        "plain_us": measure(kit, plain),
        "cuda_graph_us": measure(kit, captured),
        "build_seconds": round(seconds, 1),
        "account": inspect(trt, plain),
    }


def worst(rows: Any, metric: str, relation: str) -> Any:
    """The row nearest to its limit."""
    chosen = [row for row in rows if (row.metric, row.relation) == (metric, relation)]
    numeric = [row for row in chosen if isinstance(row.value, (int, float))]
    if not numeric:
        return [metric, len(chosen)]
    sign = -1 if relation == ">=" else 1
    row = max(numeric, key=lambda r: sign * (r.value / r.limit if r.limit else r.value))
    return [metric, row.feed, row.value, relation, row.limit]


def inspect(trt: Any, runner: EngineRunner) -> str:
    """The inspector's own text, to hold our reader of it against."""
    inspector = runner.engine.create_engine_inspector()
    inspector.execution_context = runner.context
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def time_untouched(trt: Any, cuda: Cuda, folder: Path, name: str) -> dict[str, Any]:
    """The network as torch.onnx.export leaves it, in each precision that flags can allow."""
    told: dict[str, Any] = {}
    x = np.random.default_rng(0).standard_normal((1, *SHAPES[name])).astype(np.float32)
    for precision in ("float32", "float16"):
        plan = build(trt, folder / f"{name}-{UNTOUCHED}", precision, {})
        for cuda_graph in (False, True):
            runner = EngineRunner(trt, plan, cuda, (), cuda_graph)
            feeds = {runner.engine.get_tensor_name(0): x}
            key = f"{precision}{' graph' if cuda_graph else ''}"
            told[key] = measure_latency(runner, feeds, 0).to_json()
    return told


def stream(trt: Any, cuda: Cuda, folder: Path, cuda_graph: bool) -> dict[str, Any]:
    """A stateful engine, one step at a time, against the whole signal; twice, with a reset."""
    states = [("past_0", "present_0"), ("past_1", "present_1")]
    fixed = {"x": (3, 1), "past_0": (3, 2), "past_1": (8, 8)}
    profiles = {
        name: [(n, *shape) for n in (1, STREAMS, STREAMS)] for name, shape in fixed.items()
    }
    plan = build(trt, folder / STATEFUL, "float32", profiles)
    runner = EngineRunner(trt, plan, cuda, states, cuda_graph, STREAMS)
    with np.load(folder / SIGNAL) as saved:
        x, truth = saved["x"], saved["truth"]
    errors = []
    for _ in range(2):
        runner.reset()
        steps: list[NDArray[Any]] = [
            runner.run({"x": x[:, :, t : t + 1]})["y"] for t in range(x.shape[2])
        ]
        errors.append(float(np.abs(np.concatenate(steps, axis=2) - truth).max()))
    limit = float32_limit(0.0, float(np.abs(truth).max()))
    latency = measure_latency(runner, {"x": x[:, :, :1]}, 0).to_json()
    return {"errors": errors, "limit": limit, "held": max(errors) <= limit, "step": latency}


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin nothing later")
    options = parser.parse_args()
    run(options.folder, options.seconds, options.only)


if __name__ == "__main__":
    main()
