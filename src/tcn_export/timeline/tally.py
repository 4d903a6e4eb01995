"""What was seen while steps were moved: added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcn_export.timeline.passage import Moved, Steps


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen.

    Attributes:
        windows: Random windows whose steps were moved.
        moved: Steps that were moved alone.
        together: Steps that were moved at once, since the graph never reads them.
        silent: Of the steps that were moved alone, those that left something unmoved that the
            graph lets them reach: dead units, zero weights, or an effect below rounding.
        followed: Of the steps that were moved alone, those that moved an answer.
        lookback: Most steps that lay between an answer and an earlier step that moved it.
        lookahead: The same for later ones; negative where only earlier ones did. Both are None
            where nothing moved, or nobody knows which steps the answers stand for.
    """

    windows: int
    moved: int
    together: int
    silent: int
    followed: int
    lookback: int | None
    lookahead: int | None

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Tally:
    """Adds up what was seen.

    Args:
        places: By output, which steps of the signal its steps stand for; those of which nobody
            knows it are not among them.
    """

    def __init__(self, places: Mapping[str, Steps]) -> None:
        self._places = places
        self._silent: dict[tuple[int, str], NDArray[np.bool_]] = {}
        self._followed: set[int] = set()
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
            if not did.any():
                continue
            self._followed.add(step)
            if name in self._places:
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
            len(self._followed),
            max(self._back, default=None),
            max(self._ahead, default=None),
        )
