"""What a search for the layer to blame found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tcn_export.parity.bisect import LayerRow


@dataclass(frozen=True, slots=True)
class Location:
    """Where a graph goes wrong.

    Attributes:
        rows: Every value that could be compared, in the order of the graph.
        first: The layer to blame; None where all are within their limits.
        step: The layer that adds most noise, and the ratio in dB of what it reads.
        feed: What was run.
        windows: How many windows of it.
        notes: What else was found, one sentence each.
    """

    rows: tuple[LayerRow, ...]
    first: LayerRow | None
    step: tuple[LayerRow, float] | None
    feed: str
    windows: int
    notes: tuple[str, ...]

    @property
    def nearest(self) -> LayerRow | None:
        """The layer that is nearest to its limit, or farthest beyond it."""
        return min(self.rows, key=lambda row: row.margin_db, default=None)

    def to_json(self) -> dict[str, Any]:
        """What ``tcn-verify --locate --json`` adds to the report."""
        return {
            "layers": [row.told_whole() for row in self.rows],
            "located": {
                "first_outside": None if self.first is None else self.first.told_whole(),
                "largest_step": None if self.step is None else self.step[0].told_whole(),
                "feed": self.feed,
                "windows": self.windows,
                "notes": list(self.notes),
            },
        }
