"""Comparison on many real windows, batch by batch, reduced to what the gate judges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcn_export.data import Windows, batches
from tcn_export.parity.bounds import ALPHA
from tcn_export.parity.gate import Gate, fall
from tcn_export.parity.golden import Reference, WindowAnswers
from tcn_export.parity.rows import Row, judge_error
from tcn_export.parity.statistics import Loss, accuracy_loss, relative_rms_loss
from tcn_export.parity.tally import Answers, Comparison, Tally
from tcn_export.parity.tolerance import SAME_AGREEMENT_FLOAT16, SAME_AGREEMENT_FLOAT32
from tcn_export.progress import Advance
from tcn_export.targets.base import Runner

FEED = "windows"


@dataclass(frozen=True, slots=True)
class Limits:
    """What int8 may lose on labelled windows, in points, and how often the bound may err."""

    max_drop: float
    alpha: float = ALPHA

    @property
    def told(self) -> str:
        """The bound in words."""
        return f"a bound of {100 * (1 - self.alpha):.3g} %"


def run_batches(
    runner: Runner, name: str, x: NDArray[np.float32], advance: Advance
) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The artifact's outputs on many windows, batch by batch."""
    for batch in batches(x):
        yield runner.run({name: batch})
        advance(len(batch))


def compare(
    windows: Windows,
    outputs: tuple[str, ...],
    actual: Iterable[Mapping[str, NDArray[Any]]],
    oracle: Iterable[Reference],
    is_classification: bool,
) -> dict[str, Comparison]:
    """Run through both sides together, keeping sums and answers only.

    Args:
        windows: What both were asked.
        outputs: Their names. The first is the answer; the labels say nothing of the others.
        actual: The artifact's outputs, batch by batch.
        oracle: The oracle's.
        is_classification: Whether the answer's top class means something.
    """
    plain = replace(windows, y=None)
    tallies = {name: Tally(plain, False) for name in outputs}
    tallies[outputs[0]] = Tally(windows, is_classification)
    for values, reference in zip(actual, oracle, strict=True):
        for name, tally in tallies.items():
            tally.add(values[name], reference.float64[name], reference.float32.get(name))
        if any(tally.ours.fault is not None for tally in tallies.values()):
            break
    return {name: tally.result() for name, tally in tallies.items()}


def answer(
    windows: Windows, outputs: Iterable[NDArray[Any]], is_classification: bool
) -> WindowAnswers:
    """Reduce the outputs for many windows to the answers."""
    answers = Answers(windows, is_classification)
    for batch in outputs:
        answers.add(batch)
        if answers.fault is not None:
            break
    return answers.result()


def judge_comparison(
    gate: Gate, output: str, windows: Windows, comparison: Comparison, limits: Limits
) -> list[Row]:
    """The rows of a comparison while exporting."""
    fault, own = comparison.actual.fault, comparison.oracle.fault
    if fault is None and own is not None:
        fault = f"the model's own: {own}"
    rows = [gate.form(FEED, output, fault)]
    if fault is not None:
        return rows
    agreed = _agreement(comparison.actual, comparison.oracle)
    if gate.precision == "float32":
        rows.append(
            judge_error(
                FEED, output, comparison.error, comparison.eager_error, comparison.largest
            )
        )
        if agreed is not None:
            rows.append(
                gate.again(FEED, output, "agreement", agreed, fall(SAME_AGREEMENT_FLOAT32))
            )
    elif gate.precision == "float16":
        rows += gate.judge_half(FEED, output, comparison.sqnr_db, comparison.rms)
        if agreed is not None:
            rows.append(
                gate.again(FEED, output, "agreement", agreed, fall(SAME_AGREEMENT_FLOAT16))
            )
    elif windows.y is not None:
        rows.append(gate.judge_scale(FEED, output, comparison.sqnr_db))
        rows.append(
            _judge_loss(gate, output, windows, comparison.oracle, comparison.actual, limits)
        )
    else:
        rows += gate.judge_unlabelled(FEED, output, comparison.sqnr_db, agreed, len(windows))
    return rows


def judge_answers(
    gate: Gate,
    output: str,
    windows: Windows,
    actual: WindowAnswers,
    oracle: WindowAnswers,
    limits: Limits,
) -> list[Row]:
    """The rows of a verification from the eager answers that the bundle kept.

    It keeps none for a regression without targets; there the golden data alone decide.
    """
    if gate.precision == "int8" and windows.y is not None:
        return [_judge_loss(gate, output, windows, oracle, actual, limits)]
    agreed = _agreement(actual, oracle)
    if agreed is None:
        return [] if oracle.squared_error is None else [_moved(gate, output, actual, oracle)]
    if gate.precision == "int8":
        return [gate.judge_agreement(FEED, output, agreed, len(windows))]
    slack = SAME_AGREEMENT_FLOAT16 if gate.precision == "float16" else SAME_AGREEMENT_FLOAT32
    return [gate.again(FEED, output, "agreement", agreed, fall(slack))]


def _judge_loss(
    gate: Gate,
    output: str,
    windows: Windows,
    oracle: WindowAnswers,
    actual: WindowAnswers,
    limits: Limits,
) -> Row:
    loss = window_loss(windows, oracle, actual, limits.alpha)
    row = gate.judge_loss(FEED, output, loss, limits.max_drop)
    looks = round(ALPHA / limits.alpha)
    if looks == 1:
        return row
    return replace(row, note=f"{row.note}; {looks} candidates, each held to {limits.told}")


def _moved(gate: Gate, output: str, actual: WindowAnswers, oracle: WindowAnswers) -> Row:
    """Hold how far the errors of the windows moved against the limit of the export.

    By the triangle inequality the root mean square of a window's error against its targets
    cannot move further than the outputs do. The limit is one of the largest error at float32,
    and of the noise over all windows at float16.
    """
    assert actual.squared_error is not None
    assert oracle.squared_error is not None
    moved = np.abs(np.sqrt(actual.squared_error) - np.sqrt(oracle.squared_error))
    if gate.precision == "float16":
        over_all = math.sqrt(float(np.mean(np.square(moved))))
        return gate.within(FEED, output, "rms_error_moved", "rms_noise", over_all)
    return gate.within(FEED, output, "rms_error_moved", "max_abs_error", float(moved.max()))


def report_score(output: str, windows: Windows, actual: WindowAnswers) -> list[Row]:
    """The score where nobody knows the eager model's answers: told, not judged."""
    note = "not judged: the bundle keeps the eager answers for the windows of its export only"
    if windows.y is None:
        return []
    if actual.answers is not None:
        value = float(np.mean(actual.answers == windows.y))
        return [Row(FEED, output, "accuracy", value, "=", None, "recorded", note)]
    assert actual.squared_error is not None
    value = float(actual.squared_error.mean())
    return [Row(FEED, output, "mean_squared_error", value, "=", None, "recorded", note)]


def window_loss(
    windows: Windows, oracle: WindowAnswers, actual: WindowAnswers, alpha: float = ALPHA
) -> Loss:
    """The loss between two models' answers on labelled windows."""
    assert windows.y is not None
    if oracle.answers is not None and actual.answers is not None:
        return accuracy_loss(windows.y, oracle.answers, actual.answers, alpha)
    assert oracle.squared_error is not None
    assert actual.squared_error is not None
    return relative_rms_loss(windows.y, oracle.squared_error, actual.squared_error, alpha)


def _agreement(one: WindowAnswers, other: WindowAnswers) -> float | None:
    if one.answers is None or other.answers is None:
        return None
    return float(np.mean(one.answers == other.answers))
