"""A whole recording through a stream, step by step: speed, memory, and the error over time.

    python tools/benchmark_streaming.py BUNDLE SIGNALS --model MODEL [--rate HZ]

BUNDLE was exported with ``--mode stream`` from the checkpoint MODEL, which answers at every
step; SIGNALS is an .npz file whose ``x_test`` holds the recording, (1, channels, steps). The
eager model answers in float64 on overlapping windows, of which each begins a receptive field
early; its first steps there see padding that the recording has not, and are left out.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from tcn_export import load_bundle, open_stream
from tcn_export.data import Array
from tcn_export.npz import load_dataset
from tcn_export.parity.metrics import sqnr_db
from tcn_export.parity.oracle import Oracle
from tcn_export.parity.tolerance import float32_limit
from tcn_export.source.base import Source
from tcn_export.source.checkpoint import load_source

WINDOW = 16_384
"""Steps that the eager model is asked for at once, beside the receptive field."""
PARTS = 10


def main() -> None:
    """Print the figures; exit with 1 where float32 errs more than its class allows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("signals", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rate", type=float, help="of the recording, in Hz")
    args = parser.parse_args()
    bundle = load_bundle(args.bundle)
    manifest = bundle.manifest
    hop = manifest.signature.hop
    x = load_dataset(args.signals).parity.x[:1]
    x = np.ascontiguousarray(x[:, :, : x.shape[2] // hop * hop])
    streamed, seconds, memory = run(args.bundle, x, hop)
    steps, rate = x.shape[2], args.rate or manifest.sample_rate_hz
    print(f"{steps:,} steps, {hop} at a time: {seconds.sum():.1f} s")
    median, tail = np.percentile(seconds, [50, 99]) * 1e6
    print(
        f"per hop {median:.1f} us median, {tail:.1f} us p99, {seconds.max() * 1e6:.0f} us most"
    )
    if rate:
        print(f"{steps / rate / seconds.sum():,.0f} times real time at {rate:g} Hz")
    told = ", ".join(f"{kib / 1024:.1f}" for kib in memory)
    print(f"largest resident set so far, in MiB, at each tenth: {told}")
    (spec,) = manifest.signature.outputs
    streamed = streamed[:, :, spec.delay :]
    field, ahead = manifest.receptive_field, manifest.lookahead
    assert field is not None
    assert ahead is not None
    source = load_source(args.model)
    double, single = eager(source, x, field, max(ahead, 0))
    double, single = (each[:, :, : streamed.shape[2]] for each in (double, single))
    error, own = (np.abs(each - double) for each in (streamed, single))
    print(f"signal to noise {sqnr_db(streamed.astype(float), double):.1f} dB")
    for part in np.array_split(np.arange(streamed.shape[2]), PARTS):
        noise = sqnr_db(streamed[:, :, part].astype(float), double[:, :, part])
        first, last = int(part[0]), int(part[-1])
        worst, eagers = error[:, :, part].max(), own[:, :, part].max()
        print(f"  {first:>9,} to {last:>9,}: {noise:6.1f} dB, largest error {worst:.2e}"
              f" (eager float32: {eagers:.2e})")  # fmt: skip
    same = float((streamed.argmax(1) == double.argmax(1)).mean())
    print(f"equal top answers: {100 * same:.3f} %")
    if manifest.precision != "float32":
        return
    limit = float32_limit(float(own.max()), float(np.abs(double).max()))
    verdict = "within" if error.max() <= limit else "beyond"
    print(f"largest error {error.max():.3e}, {verdict} the float32 class ({limit:.3e})")
    if error.max() > limit:
        raise SystemExit(1)


def run(path: Path, x: Array, hop: int) -> tuple[Array, Array, list[int]]:
    """Answers to every step, seconds of every hop, and the largest resident set in KiB."""
    stream = open_stream(path)
    (name,) = (spec.name for spec in stream.signature.outputs)
    hops = x.shape[2] // hop
    first = stream.step(x[:, :, :hop])[name]
    size = first.shape[2]
    answers = np.zeros((1, first.shape[1], hops * size), np.float32)  # zeros are written to,
    answers += 0  # so that its pages count from the beginning
    seconds = np.zeros(hops)
    seconds += 0
    memory = []
    stream.reset()
    for i in range(hops):
        chunk = x[:, :, i * hop : (i + 1) * hop]
        start = time.perf_counter()
        outputs = stream.step(chunk)
        seconds[i] = time.perf_counter() - start
        answers[:, :, i * size : (i + 1) * size] = outputs[name]
        if i % max(1, hops // PARTS) == 0:
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return answers, seconds, memory


def eager(source: Source, x: Array, field: int, ahead: int) -> tuple[Array, Array]:
    """What the eager model answers to every step, in float64 and in float32."""
    oracle = Oracle(source.module, source.signature, bool(source.only_single))
    (name,) = (spec.name for spec in source.signature.inputs)
    (output,) = (spec.name for spec in source.signature.outputs)
    parts: list[tuple[Array, Array]] = []
    for first in range(0, x.shape[2], WINDOW):
        begin, end = max(0, first - field), min(x.shape[2], first + WINDOW + ahead)
        (reference,) = oracle.batches(name, x[:, :, begin:end], both=True)
        kept = slice(first - begin, min(first + WINDOW, x.shape[2]) - begin)
        parts.append((
            reference.float64[output][:, :, kept],
            reference.float32[output][:, :, kept],
        ))
    double, single = (np.concatenate(each, axis=2) for each in zip(*parts, strict=True))
    return double, single


if __name__ == "__main__":
    main()
