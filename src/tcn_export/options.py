"""What a user asks of an export."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tcn_export.errors import UsageError
from tcn_export.graph import LONGEST
from tcn_export.parity.tolerance import MAX_DROP_POINTS
from tcn_export.quantize.dialects import METHODS, ORT_X86_VNNI, Method
from tcn_export.targets import TARGETS
from tcn_export.targets.base import Precision

NOISE = "noise"
"""Given as data: calibrate and compare on seeded noise, for timing only."""
DYNAMIC = "dynamic"
"""Given as length: keep the length of the window symbolic."""

OLDEST_OPSET, NEWEST_OPSET = 17, 24
DEFAULT_OPSET = 20
"""The newest one whose QuantizeLinear every current ONNX Runtime has kernels for."""
CALIBRATION_WINDOWS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What to export a model to, and how strictly to judge it.

    Attributes:
        target: Where the artifact runs.
        precision: Arithmetic of the artifact.
        data: An npz file of windows (see `data`), `NOISE`, or None.
        length: Steps of the window; None takes those of the training, `DYNAMIC` keeps it
            symbolic.
        opset: ONNX operator set version.
        calibration: How int8 ranges are chosen.
        calibration_windows: At most so many training windows calibrate, evenly spaced.
        max_drop: Points of accuracy that int8 may lose (upper 95 % bound).
        out: Folder that gets the bundle.
        name: Of the bundle; None takes the model file's stem.
        overwrite: Replace an existing bundle.
        seed: Of the stress set and of noise.

    Raises:
        UsageError: Options contradict each other.
    """

    target: Literal["onnx"] = "onnx"
    precision: Precision = "float32"
    data: Path | str | None = None
    length: int | str | None = None
    opset: int = DEFAULT_OPSET
    calibration: Method = "minmax"
    calibration_windows: int = CALIBRATION_WINDOWS
    max_drop: float = MAX_DROP_POINTS
    out: Path = Path("exported")
    name: str | None = None
    overwrite: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("target", self.target, TARGETS),
            ("precision", self.precision, get_args(Precision)),
            ("calibration", self.calibration, METHODS),
        ):
            if value not in choices:
                raise UsageError(f"the {name} {value!r} is none of {', '.join(choices)}.")
        if self.precision == "int8" and self.data is None:
            raise UsageError(
                "int8 needs real windows to calibrate on and to judge the loss: give --data "
                "FILE.npz (or --data noise, for timing only)."
            )
        if self.precision == "int8" and self.opset > ORT_X86_VNNI.newest_opset:
            raise UsageError(
                f"int8 needs an opset of at most {ORT_X86_VNNI.newest_opset}, and "
                f"{self.opset} was asked for: ONNX Runtime has no kernels for the "
                "quantisation operators of newer ones. Leave --opset out."
            )
        if self.name is not None and (not self.name or Path(self.name).name != self.name):
            raise UsageError(
                f"the name {self.name!r} must not contain a path or be empty; use --out for "
                "folders."
            )
        for number, low, high in (
            ("opset", OLDEST_OPSET, NEWEST_OPSET),
            ("calibration_windows", 1, math.inf),
            ("max_drop", 0, sys.float_info.max),
            ("seed", 0, 2**31 - 1),
        ):
            value = getattr(self, number)
            if not low <= value <= high:
                raise UsageError(f"{number} is {value}; expected {low} to {high:g}.")
        object.__setattr__(self, "out", Path(self.out))
        if self.length not in (None, DYNAMIC) and not (
            isinstance(self.length, int) and 1 <= self.length <= LONGEST
        ):
            raise UsageError(
                f"the length is {self.length!r}; expected 1 to {LONGEST:,} or {DYNAMIC!r}."
            )
