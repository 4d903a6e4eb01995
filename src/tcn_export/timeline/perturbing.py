"""Measured: steps of random windows are moved one by one, and what moves behind them is seen.

Nothing is known here of the network but its answers. Rows of two runs of the same shape are
compared bit by bit: what does not depend on a moved step is computed from the same numbers in
the same order. Only a change that the analysis denies has to be larger than any rounding.

Long windows of large networks are sampled, for seconds are all it may cost: the edges of what
the graph says, random steps between them, and all steps at once that it says are never read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tcn_export.errors import UnsupportedModelError
from tcn_export.timeline.analysis import Timeline
from tcn_export.timeline.demand import demand, length_of
from tcn_export.timeline.influence import influence
from tcn_export.timeline.passage import Moved, Steps
from tcn_export.timeline.position import positions

Run = Callable[[NDArray[np.float32]], Mapping[str, NDArray[Any]]]
"""Answers windows, (rows, ...), with every output by name, batch first."""

SIZES = (1.0, 30.0, 1000.0)
"""By how many deviations steps move, in as many windows: small moves saturate no gate, and of
large ones more is left behind many layers."""
ROUNDING = 1e-9
"""Of the largest value: more than float64 loses to a library that adds in another order."""
_MULTIPLICATIONS = 1e10
"""In float64, of everything that is run: some seconds of one core."""
_PER_CALL = 1e8
"""So many are enough for a call that its overhead does not matter."""
_FEWEST, _MOST_ROWS = 12, 32


class DisagreementError(AssertionError):
    """A step moves an answer that the analysis says it cannot reach: a bug of ours."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen.

    Attributes:
        windows: Random windows whose steps were moved.
        moved: Steps that were moved alone.
        together: Steps that were moved at once, since the graph never reads them.
        silent: Of the steps that were moved alone, those that left something unmoved that the
            graph lets them reach: dead units, zero weights, or an effect below rounding.
        lookback: Most steps that lay between an answer and an earlier step that moved it.
        lookahead: The same for later ones; negative where only earlier ones did. Both are None
            where nothing moved.
    """

    windows: int
    moved: int
    together: int
    silent: int
    lookback: int | None
    lookahead: int | None

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def perturb(
    model: ir.Model,
    timeline: Timeline,
    windows: NDArray[np.float32],
    spread: NDArray[np.float64],
    run: Run,
    parameters: int,
    seed: int = 0,
) -> Measured:
    """Move steps of windows, and hold what moves behind them against the analysis.

    Args:
        model: The analysed graph, its lengths known; it has one input with a time axis.
        timeline: What `analyze` gave for it.
        windows: Random signals, one for each of `SIZES`, shaped as the input.
        spread: Deviation of the signal, of a shape that broadcasts to a window.
        run: The eager model in float64.
        parameters: Of the model: with the length they tell what a run costs.
        seed: Of the moves.

    Raises:
        DisagreementError: A step moves an answer that the analysis says it cannot reach.
        UnsupportedModelError: The answer for one window depends on others in its batch.
    """
    probe = _Probe(model, timeline, run, np.random.default_rng(seed))
    calls, rows = _affordable(parameters, probe.length, len(windows))
    tally = _Tally(probe.places)
    for window, size in zip(windows, SIZES, strict=True):
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
    return tally.measured(len(windows))


def _affordable(parameters: int, length: int, windows: int) -> tuple[int, int]:
    """How many steps may be moved in every window, and how many rows a call has.

    >>> _affordable(1_000, 100, 3), _affordable(420_000, 1024, 3)
    ((101, 32), (12, 1))
    """
    cost = max(1, parameters) * length
    rows = int(min(max(1, _PER_CALL // cost), _MOST_ROWS))
    calls = _MULTIPLICATIONS // (cost * windows) - rows
    return int(min(max(calls, _FEWEST), length + 1)), rows


class _Probe:
    """Moves steps of the signal, and knows what the analysis expects of that."""

    def __init__(
        self, model: ir.Model, timeline: Timeline, run: Run, rng: np.random.Generator
    ) -> None:
        (self.signal,) = (v for v in model.graph.inputs if v in timeline.tracks)
        self.outputs = {v.name or "": v for v in model.graph.outputs}
        self.length = length_of(timeline, self.signal)
        self.answers, self.timeline, self._model, self._rng = run, timeline, model, rng
        axis = timeline.tracks[self.signal].axis
        assert axis is not None
        self._axis = axis
        self._needed = demand(model, timeline).get(self.signal, np.zeros(0, np.int64))
        self.places = {
            name: positions(timeline, value, self.length)
            for name, value in self.outputs.items()
            if value in timeline.tracks
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
        """Say who is to blame for a denied change: the analysis, or a network that mixes rows.

        Raises:
            DisagreementError: The window alone changes as well.
            UnsupportedModelError: It does not.
        """
        still, answer = (self.answers(x[None])[name] for x in (window, other))
        if not self.changed(name, answer, still, ROUNDING)[0, step]:
            raise UnsupportedModelError(
                f"what the network answers to one window as `{name}` depends on the other "
                "windows of its batch. Mind sums, means and norms over the batch axis."
            )
        steps = np.flatnonzero(moved)
        which = f"step {steps[0]}" if len(steps) == 1 else f"{len(steps)} steps"
        raise DisagreementError(
            f"moving {which} of the signal moves step {step} of `{name}`, and the analysis of "
            "the graph says that it cannot. This is a fault of tcn-export: please report it "
            "with the network."
        )


class _Tally:
    """Adds up what was seen."""

    def __init__(self, places: Mapping[str, Steps]) -> None:
        self._places = places
        self._silent: dict[tuple[int, str], NDArray[np.bool_]] = {}
        self._together = 0
        self._back: list[int] = []
        self._ahead: list[int] = []

    def add(self, name: str, plan: Moved, allowed: Moved, changed: Moved) -> None:
        """Take the cases of one call for one output."""
        for moved, may, did in zip(plan, allowed, changed, strict=True):
            steps = np.flatnonzero(moved)
            if len(steps) > 1:
                self._together = len(steps)
                continue
            step, silent = int(steps[0]), may & ~did
            self._silent[step, name] = self._silent.get((step, name), silent) & silent
            if did.any():
                moving = self._places[name][did]
                self._back.append(int(moving.max()) - step)
                self._ahead.append(step - int(moving.min()))

    def measured(self, windows: int) -> Measured:
        """The sums."""
        return Measured(
            windows,
            len({step for step, _ in self._silent}),
            self._together,
            len({step for (step, _), silent in self._silent.items() if silent.any()}),
            max(self._back, default=None),
            max(self._ahead, default=None),
        )
