"""What only a stream can do wrong: to be interrupted, moved elsewhere, and begun again.

Whole signals are judged as windows are, hop by hop from the first sample on; see
`targets.streamed`. Here a stream is stopped somewhere, and another one goes on from its
states: the answers must be the same to the bit, and so must those of a stream that was reset.
"""

from __future__ import annotations

import numpy as np

from tcn_export.data import Array
from tcn_export.graph import BATCH, Signature
from tcn_export.parity.golden import Golden
from tcn_export.parity.rows import Row, Status
from tcn_export.targets.base import Runner, Stepper, symbol_sizes
from tcn_export.targets.streamed import chunks, count_hops, join_hops

INTERRUPTED, RESET = "interrupted", "reset"
"""Metrics: values that differ behind states that were handed over, and behind a reset."""


def judge_interrupted(
    golden: Golden, signature: Signature, one: Runner, other: Runner, seed: int = 0
) -> list[Row]:
    """Hold interrupted streams against a stream that was not; none that lie on a device.

    Args:
        golden: Whole signals; the first feed of several hops is taken.
        signature: Of one hop.
        one: Runs the signal, again after a reset, and the beginning of it.
        other: A second runner of the same model; it goes on from the states of the first.
        seed: Of the hop at which they change over.
    """
    if not isinstance(one, Stepper) or not isinstance(other, Stepper):
        return []
    feeds = [f for f in golden.feeds if count_hops(signature, f.inputs) > 1]
    if not feeds:
        return []
    feed = feeds[0]
    hops = count_hops(signature, feed.inputs)
    split = int(np.random.default_rng(seed).integers(1, hops))
    streams = symbol_sizes(signature, feed.inputs).get(BATCH, 1)

    def run(runner: Stepper, first: int, last: int) -> list[dict[str, Array]]:
        return [
            {k: np.array(v) for k, v in runner.step(part).items()}
            for part in (chunks(signature, feed.inputs, hop) for hop in range(first, last))
        ]

    one.reset()
    one.prepare(streams)
    whole = join_hops(signature, run(one, 0, hops))
    one.reset()
    one.prepare(streams)
    begun = run(one, 0, split)
    other.reset()
    other.prepare(streams)
    other.restore(one.states())
    moved = join_hops(signature, begun + run(other, split, hops))
    again = join_hops(signature, begun + run(one, split, hops))
    rows = []
    for spec in signature.outputs:
        note = f"handed over behind hop {split} of {hops}"
        for metric, values, told in ((INTERRUPTED, moved, note), (RESET, again, "")):
            differ = int((values[spec.name] != whole[spec.name]).sum())
            differ -= int((np.isnan(values[spec.name]) & np.isnan(whole[spec.name])).sum())
            status: Status = "pass" if differ == 0 else "fail"
            rows.append(
                Row(feed.name, spec.name, metric, float(differ), "<=", 0.0, status, told)
            )
    return rows
