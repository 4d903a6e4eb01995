"""An engine of a stream, run for long on its device: does it keep up, does it stay the same?

A signal of the golden data is fed over and over as one stream. Whatever remembers a bounded
past answers every repetition alike, and a mean since the beginning less and less otherwise.

Part of ``build_engine.py``: Python 3.8, numpy and the standard library only.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from tcn_export.bench import WARM_UP_CALLS, Latency
from tcn_export.errors import BundleError
from tcn_export.parity.tolerance import float32_limit
from tcn_export.targets.streamed import chunks, count_hops

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tcn_export.data import Array
    from tcn_export.kit.proof import Kit

    Answers = Mapping[str, Array]

STREAM_HOPS = 10_000
_LEAST_PERIODS = 4
_MOST_RESTARTS = 100
_FALL = 2 / 3
"""What is left of a mean's change from the middle to the end: 1/k - 1/(k + 1) is a quarter."""


def stream(kit: Kit, runner: Any, hops: int = STREAM_HOPS) -> dict[str, Any]:
    """Run a golden signal again and again as one stream, and time every hop.

    Args:
        kit: Gives the signal, its rate and what the network remembers.
        runner: Takes one hop, and carries the states.
        hops: How many.

    Returns:
        The times, and how much the answers to a repetition differ from those to the one
        before.

    Raises:
        BundleError: The answers drift, hang on nothing that came before, or are others after
            a reset.
    """
    signal = _repeated_signal(kit, hops)
    seconds, first, changes = _run(runner, signal, hops)
    most = max(_largest_answer(answers) for answers in first)
    limit = float32_limit(0.0, most)
    told = _settled(kit, changes, limit, hops, len(signal))
    _check_restarts(runner, signal, first, limit, has_states=bool(kit.states))
    return {**_times(kit, seconds), "changes_per_repetition": told}


def stream_line(told: Mapping[str, Any]) -> str:
    """What `stream` found, in a line for people."""
    line = (
        f"streamed {told['hops']:,} hops of {told['hop']}: {told['median_us']:.1f} us per hop "
        f"(p99 {told['p99_us']:.1f}, longest {told['longest_us']:.1f}), "
        f"{told['us_per_step']:.2f} us per step"
    )
    if told["times_real_time"] is None:
        return line
    return (
        f"{line}; {told['times_real_time']:,.0f} times as fast as the signal comes at "
        f"{told['sample_rate_hz']:g} Hz, {told['late_hops']} hops too late"
    )


def _repeated_signal(kit: Kit, hops: int) -> list[dict[str, Array]]:
    """The hops of a golden signal, few enough to be repeated several times."""
    feed = next((f for f in kit.golden.feeds if f.kind == "real"), kit.golden.feeds[0])
    one = {name: array[:1] for name, array in feed.inputs.items()}
    count = min(count_hops(kit.signature, one), max(1, hops // _LEAST_PERIODS))
    return [chunks(kit.signature, one, hop) for hop in range(count)]


def _run(
    runner: Any, signal: Sequence[Mapping[str, Array]], hops: int
) -> tuple[Array, list[Answers], list[float]]:
    """Seconds of every hop, the answers to the first repetition, the change in each later one.

    Memory does not grow with the hops beyond a number for each.
    """
    period = len(signal)
    seconds, changes = np.empty(hops), [0.0] * (hops // period)
    first: list[Answers] = []
    before: deque[Answers] = deque(maxlen=period)
    runner.reset()
    for hop in range(hops):
        start = time.perf_counter()
        answers = runner.run(signal[hop % period])
        seconds[hop] = time.perf_counter() - start
        if hop < period:
            first.append(answers)
        elif hop // period < len(changes):
            repetition = hop // period
            changes[repetition] = _worse(changes[repetition], _change(before[0], answers))
        before.append(answers)
    return seconds, first, changes[1:]


def _settled(
    kit: Kit, changes: Sequence[float], limit: float, hops: int, period: int
) -> dict[str, Any]:
    """The change at the beginning, in the middle and at the end; that must not be drift.

    Raises:
        BundleError: It is.
    """
    if len(changes) < _LEAST_PERIODS - 1:
        return {"judged": False}
    early, middle, late = changes[0], changes[len(changes) // 2], changes[-1]
    remembered = (kit.manifest.get("receptive_field") or 0) // kit.hop + 2
    # Before all that is remembered is of repetitions, the answers may well still change.
    judged = remembered + period <= hops // 2
    if judged and not (late <= limit or late <= _FALL * middle):
        raise BundleError(
            f"the stream drifts: after {hops:,} hops a signal that repeats is answered "
            f"otherwise each time, by {late:.3g}; in the middle it was {middle:.3g}, and "
            f"{limit:.3g} is what rounding may do. Do not use the engine."
        )
    return {"judged": judged, "early": early, "middle": middle, "late": late, "limit": limit}


def _check_restarts(
    runner: Any,
    signal: Sequence[Mapping[str, Array]],
    first: Sequence[Answers],
    limit: float,
    *,
    has_states: bool,
) -> None:
    """Raise `BundleError` where a reset does not begin anew, or changes nothing."""
    runner.reset()
    again = 0.0
    for hop, answers in zip(signal, first):  # noqa: B905 - Python 3.8
        again = _worse(again, _change(answers, runner.run(hop)))
    if not again <= limit:
        raise BundleError(
            f"the stream answers otherwise after a reset, by {again:.3g} of {limit:.3g} "
            "allowed: do not use the engine."
        )
    if not has_states or len(signal) < 2:
        return
    places = np.unique(np.linspace(1, len(signal) - 1, _MOST_RESTARTS).astype(int))
    for place in places:
        runner.reset()
        if _change(first[place], runner.run(signal[place])) > limit:
            runner.reset()
            return
    raise BundleError(
        "every hop is answered the same without the hops before it: states are not carried. "
        "Do not use the engine."
    )


def _times(kit: Kit, seconds: Array) -> dict[str, Any]:
    """Quantiles per hop, and how that compares with the rate at which the signal comes."""
    warm = seconds[WARM_UP_CALLS:] if len(seconds) > 2 * WARM_UP_CALLS else seconds
    latency, hop = Latency.over(warm, 0), kit.hop
    rate = kit.manifest.get("sample_rate_hz")
    until_next = None if not rate else hop / rate
    return {
        "hops": len(seconds),
        "hop": hop,
        "median_us": round(latency.median_us, 1),
        "p90_us": round(latency.p90_us, 1),
        "p99_us": round(latency.p99_us, 1),
        "longest_us": round(float(warm.max()) * 1e6, 1),
        "us_per_step": round(latency.median_us / hop, 3),
        "sample_rate_hz": rate,
        "times_real_time": until_next and round(until_next * 1e6 / latency.median_us, 1),
        "late_hops": until_next and int((warm > until_next).sum()),
    }


def _change(some: Answers, others: Answers) -> float:
    """How far the answers to two hops are apart; NaN where only one of them is a number."""
    most = 0.0
    for name, one in some.items():
        a, b = one.astype(np.float64), others[name].astype(np.float64)
        with np.errstate(invalid="ignore"):
            apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
        most = _worse(most, float(np.max(apart, initial=0.0)))
    return most


def _worse(one: float, other: float) -> float:
    """The larger one; NaN where one is."""
    return float(np.maximum(one, other))


def _largest_answer(answers: Answers) -> float:
    """The largest finite answer."""
    finite = [a[np.isfinite(a)].astype(np.float64) for a in answers.values()]
    return max(float(np.max(np.abs(a), initial=0.0)) for a in finite)
