"""Measured: steps of random windows are moved one by one, and what moves behind them is seen.

Nothing is known here of the network but its answers. Rows of two runs of the same shape are
compared bit by bit: what does not depend on a moved step is computed from the same numbers in
the same order. Only a change that the analysis denies has to be larger than any rounding.

Long windows of large networks are sampled, for seconds are all it may cost: the edges of what
the graph says, random steps between them, and all steps at once that it says are never read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tcn_export.errors import UnsupportedModelError
from tcn_export.timeline.analysis import Timeline
from tcn_export.timeline.batching import ROUNDING, Run, check_apart, mixes_windows
from tcn_export.timeline.cost import multiplications
from tcn_export.timeline.demand import demand, length_of
from tcn_export.timeline.influence import influence
from tcn_export.timeline.passage import Moved
from tcn_export.timeline.position import is_placed, positions
from tcn_export.timeline.tally import Measured, Tally

SIZES = (1.0, 30.0, 1000.0)
"""By how many deviations steps move, in as many windows: small moves saturate no gate, and of
large ones more is left behind many layers."""
_MULTIPLICATIONS = 1e10
"""In float64, of everything that is run: some seconds of one core."""
_PER_CALL = 1e8
"""So many are enough for a call that its overhead does not matter."""
_FEW, _FEWEST, _MOST, _MOST_ROWS = 12, 4, 257, 32
"""Steps that are moved in a window: rather than fewer, fewer windows; and never fewer."""


class DisagreementError(AssertionError):
    """A step moves an answer that the analysis says it cannot reach: a bug of ours."""


def perturb(
    model: ir.Model,
    timeline: Timeline,
    windows: NDArray[np.float32],
    spread: NDArray[np.float64],
    run: Run,
    captured: Callable[[], Run],
    seed: int = 0,
) -> Measured:
    """Move steps of windows, and hold what moves behind them against the analysis.

    Args:
        model: The analysed graph, its lengths known; it has one input with a time axis.
        timeline: What `analyze` gave for it.
        windows: Random signals, one for each of `SIZES`, shaped as the input.
        spread: Deviation of the signal, of a shape that broadcasts to a window.
        run: The eager model in float64.
        captured: Makes what answers as the graph itself does; asked for in doubt only.
        seed: Of the moves.

    Raises:
        DisagreementError: A step moves an answer that the analysis says it cannot reach.
        UnsupportedModelError: The answer for one window depends on others in its batch, or
            the graph is not what the network computes.
    """
    probe = _Probe(model, timeline, run, captured, np.random.default_rng(seed))
    asked, calls, rows = _affordable(multiplications(model), probe.length)
    check_apart(run, windows[: max(asked, 2)], asked)
    tally = Tally(probe.places)
    for window, size in zip(windows, _sizes(asked), strict=False):
        plan = probe.plan(calls)
        expected = probe.expected(plan)
        still = probe.answers(np.repeat(window[None], rows, axis=0))
        for start in range(0, len(plan), rows):
            moved = np.zeros((rows, probe.length), np.bool_)
            part = plan[start : start + rows]
            moved[: len(part)] = part
            batch = probe.move(window, moved, spread * size)
            for name, answer in probe.answers(batch).items():
                allowed = expected[name][start : start + rows]
                large = probe.changed(name, answer, still[name], ROUNDING)[: len(part)]
                denied = np.argwhere(large & ~allowed)
                if len(denied):
                    row, step = (int(n) for n in denied[0])
                    probe.convict(name, step, window, batch[row], part[row])
                changed = probe.changed(name, answer, still[name])[: len(part)]
                tally.add(name, part, allowed, changed & allowed)
    return tally.measured(asked)


def _sizes(windows: int) -> tuple[float, ...]:
    """By how much to move: where not all can be tried, the middle one first."""
    return SIZES if windows == len(SIZES) else SIZES[1 : 1 + windows]


def _affordable(cost: int, length: int) -> tuple[int, int, int]:
    """How many windows, how many cases of moved steps in each, and how many rows a call has.

    Args:
        cost: Multiply-accumulates of one row.
        length: Steps of a window.

    >>> _affordable(100_000, 100), _affordable(430_000_000, 1024), _affordable(10**10, 4096)
    ((3, 101, 32), (1, 19, 1), (1, 4, 1))
    """
    most = int(_MULTIPLICATIONS // max(1, cost))
    rows = int(min(max(1, _PER_CALL // max(1, cost)), _MOST_ROWS))

    def cases(windows: int) -> int:
        """What is left of the runs after those of windows alone, in a batch, and still."""
        return (most - windows - max(windows, 2)) // windows - rows

    asked = next((n for n in (3, 2) if cases(n) >= min(_FEW, length + 1)), 1)
    return asked, min(max(cases(asked), _FEWEST), length + 1, _MOST), rows


class _Probe:
    """Moves steps of the signal, and knows what the analysis expects of that."""

    def __init__(
        self,
        model: ir.Model,
        timeline: Timeline,
        run: Run,
        captured: Callable[[], Run],
        rng: np.random.Generator,
    ) -> None:
        (self.signal,) = (v for v in model.graph.inputs if v in timeline.tracks)
        self.outputs = {v.name or "": v for v in model.graph.outputs}
        self.length = length_of(timeline, self.signal)
        self.answers, self._captured, self._rng = run, captured, rng
        self.timeline, self._model = timeline, model
        axis = timeline.tracks[self.signal].axis
        assert axis is not None
        self._axis = axis
        self._needed = demand(model, timeline).get(self.signal, np.zeros(0, np.int64))
        self.places = {
            name: positions(timeline, value, self.length)
            for name, value in self.outputs.items()
            if value in timeline.tracks and is_placed(timeline, value)
        }

    def plan(self, most: int) -> Moved:
        """Which steps to move in each case: (cases, steps)."""
        if self.length < most:
            return np.eye(self.length, dtype=np.bool_)
        denied = np.ones((1, self.length), np.bool_)
        denied[0, self._needed] = False
        edges = self._needed[[0, -1]] if len(self._needed) else self._needed
        inner = self._needed[1:-1]
        some = self._rng.permutation(inner)[: most - len(edges) - 1]
        chosen = np.union1d(edges, some)
        alone = chosen[:, None] == np.arange(self.length)
        return np.concatenate([alone, denied]) if denied.any() else alone

    def expected(self, plan: Moved) -> dict[str, Moved]:
        """What may change in each case, by output: (cases, steps of the output)."""
        reached = influence(self._model, self.timeline, {self.signal: plan})
        nothing = np.zeros((len(plan), 1), np.bool_)
        return {name: reached.get(value, nothing) for name, value in self.outputs.items()}

    def move(
        self, window: NDArray[np.float32], moved: Moved, size: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """One window per case, moved at random where the case says so."""
        noise = self._rng.standard_normal((len(moved), *window.shape)) * size
        shape = [len(moved), *(1 for _ in window.shape)]
        shape[self._axis] = self.length
        where = moved.reshape(shape)
        batch: NDArray[np.float32] = (window + np.where(where, noise, 0)).astype(np.float32)
        return batch

    def changed(
        self, name: str, answer: NDArray[Any], still: NDArray[Any], least: float = 0.0
    ) -> Moved:
        """Which steps of an output differ: (rows, steps), one where it has no time axis.

        By more than ``least``, as a share of the largest value.
        """
        track = self.timeline.tracks.get(self.outputs[name])
        with np.errstate(invalid="ignore"):  # a large move may overflow
            differ = np.abs(answer - still) > least * np.abs(still).max()
        axis = None if track is None else track.axis
        steps = differ[:, None] if axis is None else np.moveaxis(differ, axis, 1)
        found: Moved = np.logical_or.reduce(steps.reshape(*steps.shape[:2], -1), axis=2)
        return found

    def convict(
        self,
        name: str,
        step: int,
        window: NDArray[np.float32],
        other: NDArray[np.float32],
        moved: Moved,
    ) -> None:
        """Say who is to blame for a denied change.

        Raises:
            UnsupportedModelError: The window alone does not change: the network mixes rows. Or
                what PyTorch's exporter wrote does not change: it is not the network.
            DisagreementError: Both change: it is the analysis of the graph.
        """
        still, answer = (self.answers(x[None])[name] for x in (window, other))
        if not self.changed(name, answer, still, ROUNDING)[0, step]:
            raise mixes_windows(name)
        steps = np.flatnonzero(moved)
        which = f"step {steps[0]}" if len(steps) == 1 else f"{len(steps)} steps"
        still, answer = (self._captured()(x[None])[name] for x in (window, other))
        if not self.changed(name, answer, still)[0, step]:
            raise UnsupportedModelError(
                f"moving {which} of the signal moves step {step} of `{name}` in the network, "
                "and not in its graph: PyTorch's exporter wrote something else than the "
                "network computes. Common causes are BatchNorm or dropout in training mode, "
                "and code that asks whether it is being exported."
            )
        raise DisagreementError(
            f"moving {which} of the signal moves step {step} of `{name}`, and the analysis of "
            "the graph says that it cannot. This is a fault of tcn-export: please report it "
            "with the network."
        )
