"""How a graph is quantised: which ranges, which remedies, and which layers not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tcn_export.quantize.dialects import Method


@dataclass(frozen=True, slots=True)
class Recipe:
    """What can be varied where the plain way costs too much accuracy.

    Attributes:
        calibration: How ranges of activations are chosen.
        equalize: Equalise channels first; see `equalization`.
        correct_bias: Take mean errors off the biases; see `bias_correction`.
        in_float: Names of nodes that stay in float32.
    """

    calibration: Method = "minmax"
    equalize: bool = False
    correct_bias: bool = False
    in_float: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest; the layers in float stand elsewhere, by their names."""
        return {
            "calibration": self.calibration,
            "equalized": self.equalize,
            "bias_corrected": self.correct_bias,
        }
