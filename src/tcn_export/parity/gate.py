"""The gate: one row per feed, output and metric, each with its limit and its verdict.

Sets of names come first, then shapes and dtypes, then values: a missing output, NaN where the
oracle has none, or an output that stands still where the oracle's moves is a failure, never a
warning.

Part of ``build_engine.py``: Python 3.8, numpy and the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tcn_export.parity.golden import Feed, Golden, Reference
from tcn_export.parity.metrics import (
    agreement,
    answers,
    kinds,
    largest,
    max_abs_error,
    sqnr_db,
    where_finite,
)
from tcn_export.parity.rows import BOUNDS, Row, Status, at_least, judge_error
from tcn_export.parity.tolerance import (
    FLOAT16_SQNR_DB,
    FLOAT16_STRESS_SQNR_DB,
    INT8_AGREEMENT,
    INT8_LABELLED_SQNR_DB,
    INT8_SQNR_DB,
    SAME_AGREEMENT,
    float16_limit,
    noise_floor,
    same_sqnr_limit,
)

if TYPE_CHECKING:
    from tcn_export.data import Array
    from tcn_export.graph import Signature
    from tcn_export.parity.statistics import Loss
    from tcn_export.targets.base import Precision, Runner


@dataclass(frozen=True)
class Gate:
    """Judges a runner's outputs.

    Attributes:
        precision: Chooses the tolerance class.
        signature: Dtypes of the outputs; the first is the answer.
        is_classification: Whether top answers mean something.
        baseline: What the export noted, by feed, output and metric; None while exporting.
    """

    precision: Precision
    signature: Signature
    is_classification: bool
    baseline: Mapping[tuple[str, str, str], float] | None = None

    def judge_golden(
        self, golden: Golden, runner: Runner, advance: Callable[[], object] = int
    ) -> list[Row]:
        """Run every golden feed, each from the beginning, and compare with its reference."""
        rows: list[Row] = []
        for feed in golden.feeds:
            runner.reset()
            advance()
            rows += self.judge(feed, runner.run(feed.inputs), golden.references[feed.name])
        for spec in self.signature.outputs:
            told = [r.float64.get(spec.name) for r in golden.references.values()]
            if told and not any(v is None or np.isfinite(v).any() for v in told):
                nothing = "the model's own is finite on no feed: there is nothing to compare"
                rows.append(self.form("*", spec.name, nothing))
        return rows

    def judge(self, feed: Feed, actual: Mapping[str, Array], oracle: Reference) -> list[Row]:
        """Compare the outputs of one feed, names first."""
        expected = {spec.name for spec in self.signature.outputs}
        for outputs in (actual, oracle.float64, oracle.float32):
            if set(outputs) != expected:
                names = f"outputs {sorted(outputs)}, expected {sorted(expected)}"
                return [self.form(feed.name, "*", names)]
        rows: list[Row] = []
        for spec in self.signature.outputs:
            fault = self._fault(feed, spec.name, spec.dtype, actual[spec.name], oracle)
            without = int((~np.isfinite(oracle.float64[spec.name])).sum())
            note = f"{without} values of the model's own are NaN or infinite"
            rows.append(self.form(feed.name, spec.name, fault, note if without else ""))
            if fault is None:
                rows += self._values(feed, spec.name, actual[spec.name], oracle)
        return rows

    def judge_loss(self, feed: str, output: str, loss: Loss, max_drop: float) -> Row:
        """Hold the upper bound of a loss against ``max_drop`` points.

        Where no artifact could pass on so few windows, and as much was not lost before their
        eyes, nothing is decided.
        """
        metric = BOUNDS[0] if self.is_classification else BOUNDS[1]
        fewest = loss.fewest(max_drop)
        status: Status = "pass"
        note = f"{loss.lost:+.2f} points seen on {loss.windows} windows: {loss.note}"
        if loss.upper > max_drop >= loss.lost and (fewest is None or loss.windows < fewest):
            status, note = "undecided", _undecidable(loss, max_drop)
        elif not loss.upper <= max_drop:
            status, needed = "fail", loss.needed(max_drop)
            if needed is not None:
                note += f"; at this loss the bound takes about {needed:,} windows"
        return Row(feed, output, metric, loss.upper, "<=", max_drop, status, note)

    def judge_scale(self, feed: str, output: str, sqnr: float) -> Row:
        """Hold the noise on labelled windows against the int8 limit."""
        return at_least(feed, output, "sqnr_db", sqnr, INT8_LABELLED_SQNR_DB)

    def judge_half(self, feed: str, output: str, sqnr: float, rms: float) -> list[Row]:
        """Hold the noise on all windows against the float16 limit.

        For a regression also in the units of its outputs, whose root mean square is ``rms``: a
        verification that has the errors of the windows alone can hold them against that.
        """
        limit = FLOAT16_SQNR_DB
        rows = [at_least(feed, output, "sqnr_db", sqnr, limit)]
        if not self.is_classification:
            noise, most = rms * 10 ** (-sqnr / 20), rms * 10 ** (-limit / 20)
            status: Status = "pass" if noise <= most else "fail"
            rows.append(Row(feed, output, "rms_noise", noise, "<=", most, status))
        return rows

    def judge_unlabelled(
        self, feed: str, output: str, sqnr: float, agreed: float | None, windows: int
    ) -> list[Row]:
        """Hold noise and, for a classifier, the equal answers against the int8 limits."""
        rows = [at_least(feed, output, "sqnr_db", sqnr, INT8_SQNR_DB)]
        if agreed is not None:
            rows.append(self.judge_agreement(feed, output, agreed, windows))
        return rows

    def judge_agreement(self, feed: str, output: str, agreed: float, windows: int) -> Row:
        """Hold the share of equal answers against the int8 limit."""
        note = f"on {windows} window{'' if windows == 1 else 's'}"
        return at_least(feed, output, "agreement", agreed, INT8_AGREEMENT, note)

    def form(self, feed: str, output: str, fault: str | None, note: str = "") -> Row:
        """Whether an output has the names, shape, dtype and finite values it must have."""
        status: Status = "pass" if fault is None else "fail"
        wanted = "as the oracle's"
        return Row(feed, output, "form", fault or wanted, "=", wanted, status, note)

    def _fault(
        self, feed: Feed, output: str, dtype: str, actual: Array, oracle: Reference
    ) -> str | None:
        """What is wrong with the form of an output; None where nothing is."""
        float64 = oracle.float64[output]
        if actual.shape != float64.shape:
            return f"shape {actual.shape}, expected {float64.shape}"
        if actual.dtype != np.dtype(dtype):
            return f"dtype {actual.dtype}, expected {dtype}"
        finite, wanted = np.isfinite(actual), np.isfinite(float64)
        if (wanted & ~finite).any():
            return f"{int((wanted & ~finite).sum())} values are NaN or infinite"
        if self.precision == "int8" and feed.kind == "stress":
            return None  # beyond the calibrated range an output may well stand still
        others = _other_kinds(actual, float64, oracle.float32[output])
        if others:
            return f"{others} values are not NaN or infinite in the way that the model's are"
        actual, float64 = where_finite(actual, float64), where_finite(float64, float64)
        if float64.size == 0:
            return None
        floor = noise_floor(self.precision, float64, oracle.eager_error(output))
        if _stands_still(actual) and np.ptp(float64) > 2 * floor:
            return "constant, where the oracle's varies"
        if feed.kind != "stress" and _same_for_all(actual) and _varies(float64, 2 * floor):
            return "the same for every window, where the oracle's differs"
        return None

    def _values(self, feed: Feed, output: str, actual: Array, oracle: Reference) -> list[Row]:
        double = oracle.float64[output]
        float64 = where_finite(double, double)
        if float64.size == 0:
            return []
        if self.precision == "float32":
            error, eager = max_abs_error(actual, double), oracle.eager_error(output)
            return [judge_error(feed.name, output, error, eager, largest(float64))]
        noise = sqnr_db(where_finite(actual, double), float64)
        if self.precision == "float16":
            eager32 = where_finite(oracle.float32[output], double)
            least = float16_limit(feed.kind, float64, eager32)
            note = "" if least >= FLOAT16_STRESS_SQNR_DB else "its terms cancel"
            return [at_least(feed.name, output, "sqnr_db", noise, least, note)]
        if feed.kind == "stress":
            return []  # int8 is judged on the signals it was calibrated for
        rows = [
            self.again(
                feed.name,
                output,
                "sqnr_db",
                noise,
                lambda recorded: same_sqnr_limit(recorded, float64.size),
            )
        ]
        if self.is_classification and output == self.signature.outputs[0].name:
            share = agreement(actual, double)
            # Of few answers one may always change: two kernels round differently.
            slack = max(SAME_AGREEMENT, 1 / answers(double).size)
            rows.append(self.again(feed.name, output, "agreement", share, fall(slack)))
        return rows

    def within(self, feed: str, output: str, metric: str, judged: str, value: float) -> Row:
        """Hold a value against the limit that the export had for the metric ``judged``."""
        limit = (self.baseline or {}).get((feed, output, judged))
        if limit is None:
            return Row(feed, output, metric, value, "<=", "?", "fail", "no limit was recorded")
        return Row(
            feed, output, metric, value, "<=", limit, "pass" if value <= limit else "fail"
        )

    def again(
        self,
        feed: str,
        output: str,
        metric: str,
        value: float,
        least: Callable[[float], float],
    ) -> Row:
        """Record a value at the export; later hold it against what ``least`` makes of that."""
        if self.baseline is None:
            return Row(feed, output, metric, value, ">=", None, "recorded")
        recorded = self.baseline.get((feed, output, metric))
        if recorded is None:
            return Row(feed, output, metric, value, ">=", "?", "fail", "nothing was recorded")
        note = f"{recorded:.4g} at the export"
        return at_least(feed, output, metric, value, least(recorded), note)


def fall(slack: float) -> Callable[[float], float]:
    """A limit for `Gate.again`: so much below what was recorded."""
    return lambda recorded: recorded - slack


def _undecidable(loss: Loss, max_drop: float) -> str:
    """Why so few windows decide nothing, and how many would."""
    fewest, needed = loss.fewest(max_drop), loss.needed(max_drop)
    points = f"{max_drop:g} point{'' if max_drop == 1 else 's'}"
    told = f"{loss.windows:,} windows cannot show a loss below {points}; "
    if fewest is None:
        return f"{told}no number can"
    told += f"{fewest:,} can"
    if needed is not None and needed > fewest:
        told += f", and at the loss seen ({loss.lost:+.2f} points) about {needed:,}"
    return told


def _other_kinds(actual: Array, float64: Array, float32: Array) -> int:
    """How many values are numbers, NaN or infinite where float64 is none or another of these.

    Where eager float32 is not finite either, its kind is as good: infinities that meet become
    NaN in one order of the same sums, and stay infinite in another.
    """
    found, own, eager = kinds(actual), kinds(float64), kinds(float32)
    return int(((own != 0) & (found != own) & ((eager == 0) | (found != eager))).sum())


def _stands_still(output: Array) -> bool:
    return output.size > 1 and bool(np.ptp(output) == 0)


def _same_for_all(output: Array) -> bool:
    return len(output) > 1 and bool((output == output[:1]).all())


def _varies(output: Array, floor: float) -> bool:
    return len(output) > 1 and float(np.ptp(output, axis=0).max()) > floor
