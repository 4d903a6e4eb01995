"""What a user asks of an export."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from tcn_export import machine
from tcn_export.errors import UsageError
from tcn_export.foreign_options import check_factory, check_foreign
from tcn_export.graph import LONGEST
from tcn_export.parity.tolerance import MAX_DROP_POINTS
from tcn_export.quantize.dialects import (
    ISAS,
    METHODS,
    Dialect,
    Isa,
    Method,
    dialect_for,
    isa_of,
)
from tcn_export.source.base import Layout, Told
from tcn_export.stream_options import RUNNING, STATE_FORMS, check_stream
from tcn_export.targets import TARGETS
from tcn_export.targets.base import Mode, Precision
from tcn_export.targets.tensorrt.settings import TensorRTSettings

NOISE = "noise"
"""Given as data: calibrate and compare on seeded noise, for timing only."""
DYNAMIC = "dynamic"
"""Given as length: keep the length of the window symbolic."""

OLDEST_OPSET, NEWEST_OPSET = 17, 24
DEFAULT_OPSETS = {"onnx": 20, "cuda": 20, "trt": 18}
"""20: the newest one whose QuantizeLinear every current ONNX Runtime has kernels for. 18: the
oldest one that PyTorch exports without conversion, which every TensorRT since 10.3 reads."""
AUTO = "auto"
"""Given as layout: choose the one that is fastest here. Given as precision: the fastest that
passes."""
LAYOUTS = {
    "onnx": ("1d", "1d-direct", "1d-padded", "2d", "2d-padded", "2d-fused"),
    "cuda": ("1d", "1d-direct", "2d"),
    "trt": ("1d", "2d"),
}
"""By target: names of equal graphs (`rewrite.plans.LAYOUTS`) that differ in speed there."""
CALIBRATION_WINDOWS = 512
CUDA_GRAPH_TARGETS = ("cuda", "trt")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What to export a model to, and how strictly to judge it.

    Attributes:
        target: Where the artifact runs.
        precision: Arithmetic of the artifact; `AUTO` measures float32 and int8 on this machine
            and takes the fastest that passes.
        data: An npz file of windows (see `data`), `NOISE`, or None.
        length: Steps of the window; None takes those of the training, `DYNAMIC` keeps it
            symbolic.
        opset: ONNX operator set version; None takes the target's own.
        cpu_isa: Processors that int8 is made for; `AUTO` takes those like this machine's.
        calibration: How int8 ranges are chosen.
        calibration_windows: At most so many training windows calibrate, evenly spaced.
        max_drop: Points of accuracy that int8 may lose (upper 95 % bound).
        int8_only: Keep no layer in float32, and try no other ranges, where int8 loses more.
        allow_undecided: Where too few windows can show that, waive it.
        out: Folder that gets the bundle.
        name: Of the bundle; None takes the model file's stem.
        overwrite: Replace an existing bundle.
        seed: Of the stress set and of noise.
        factory: ``MODULE:NAME`` of what makes the network; MODEL then holds its weights.
        factory_args: Keyword arguments of the factory.
        input_shape: Channels and steps of a window; a factory's network does not tell.
        input_layout: Axes of the signal that a foreign network takes; None finds them out.
        task: What the outputs of a foreign network mean; None for classification.
        answer: Which of the outputs of a foreign network is judged as its answer; None takes
            the first.
        layout: One of `LAYOUTS`; `AUTO` measures them all where the target runs here, and
            takes the fastest.
        keep_all_steps: Compute every step of every layer, needed or not.
        mode: ``window`` takes whole windows, ``stream`` one hop at a time, with states.
        hop: Steps of the signal that a stream takes at a time; None for 1.
        mean: What a mean over time becomes in a stream: `RUNNING`, or ``window:W`` for the
            last W steps; None where there is none.
        state_form: One of `STATE_FORMS`; `AUTO` measures them, and takes the fastest.
        cuda_graph: Have the runner capture its calls as CUDA graphs and replay them.
        trt: How TensorRT builds the engine.
        bundle_only: A device kit is all that is wanted: that no engine ran here is waived.

    Raises:
        UsageError: Options contradict each other.
    """

    target: Literal["onnx", "cuda", "trt"] = "onnx"
    precision: Precision | Literal["auto"] = "float32"
    data: Path | str | None = None
    length: int | str | None = None
    opset: int | None = None
    cpu_isa: Isa | Literal["auto"] = "auto"
    calibration: Method = "minmax"
    calibration_windows: int = CALIBRATION_WINDOWS
    max_drop: float = MAX_DROP_POINTS
    int8_only: bool = False
    allow_undecided: bool = False
    out: Path = Path("exported")
    name: str | None = None
    overwrite: bool = False
    seed: int = 0
    factory: str | None = None
    factory_args: Mapping[str, Any] | None = None
    input_shape: tuple[int, int] | None = None
    input_layout: Layout | None = None
    answer: str | None = None
    task: Literal["classification", "regression"] | None = None
    layout: str = AUTO
    keep_all_steps: bool = False
    mode: Mode = "window"
    hop: int | None = None
    mean: str | None = None
    state_form: str = AUTO
    cuda_graph: bool = False
    trt: TensorRTSettings = TensorRTSettings()  # noqa: RUF009 - frozen
    bundle_only: bool = False

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("target", self.target, TARGETS),
            ("precision", self.precision, (*get_args(Precision), AUTO)),
            ("calibration", self.calibration, METHODS),
            ("CPU", self.cpu_isa, (AUTO, *ISAS)),
            ("mode", self.mode, get_args(Mode)),
            ("state form", self.state_form, (AUTO, *STATE_FORMS)),
        ):
            if value not in choices:
                raise UsageError(f"the {name} {value!r} is none of {', '.join(choices)}.")
        self._check_target()
        if self.may_quantize and self.data is None:
            raise UsageError(
                f"{self.precision} needs real windows to calibrate on and to judge the loss: "
                "give --data FILE.npz (or --data noise, for timing only)."
            )
        newest = self.dialect.newest_opset if self.may_quantize else None
        if newest is not None and self.operator_set > newest:
            raise UsageError(
                f"int8 needs an opset of at most {newest}, and {self.opset} was asked for: "
                "ONNX Runtime has no kernels for the quantisation operators of newer ones. "
                "Leave --opset out."
            )
        if self.name is not None and (not self.name or Path(self.name).name != self.name):
            raise UsageError(
                f"the name {self.name!r} must not contain a path or be empty; use --out for "
                "folders."
            )
        for number, low, high in (
            ("operator_set", OLDEST_OPSET, NEWEST_OPSET),
            ("calibration_windows", 1, math.inf),
            ("max_drop", 0, sys.float_info.max),
            ("seed", 0, 2**31 - 1),
        ):
            value = getattr(self, number)
            if not low <= value <= high:
                raise UsageError(
                    f"{number.replace('operator_set', 'opset')} is {value}; expected {low} to "
                    f"{high:g}."
                )
        object.__setattr__(self, "out", Path(self.out))
        if self.length not in (None, DYNAMIC) and not (
            isinstance(self.length, int) and 1 <= self.length <= LONGEST
        ):
            raise UsageError(
                f"the length is {self.length!r}; expected 1 to {LONGEST:,} or {DYNAMIC!r}."
            )
        check_factory(self)
        check_foreign(self)
        check_stream(self)

    @property
    def may_quantize(self) -> bool:
        """Whether int8 is made, alone or beside others."""
        return self.precision in ("int8", AUTO)

    @property
    def dialect(self) -> Dialect:
        """How the target wants int8, on the processors that it is made for."""
        isa = self.cpu_isa
        if isa == "auto":
            isa = isa_of(platform.machine(), machine.host()["isa"])
        return dialect_for(self.target, isa)

    @property
    def operator_set(self) -> int:
        """The ONNX operator set version that is exported."""
        return DEFAULT_OPSETS[self.target] if self.opset is None else self.opset

    @property
    def told(self) -> Told:
        """What the options say of a network that does not say it itself."""
        return Told(
            factory=self.factory,
            arguments=self.factory_args,
            input_shape=self.input_shape,
            layout=self.input_layout,
            task=self.task,
            answer=self.answer,
            length=self.length if isinstance(self.length, int) else None,
            is_dynamic=self.length == DYNAMIC,
        )

    @property
    def steps_per_hop(self) -> int:
        """Steps of the signal that a stream takes at a time."""
        return 1 if self.hop is None else self.hop

    @property
    def mean_steps(self) -> int | None:
        """Steps of a stream's mean over time; 0 for all so far, None where there is none."""
        if self.mean is None:
            return None
        return 0 if self.mean == RUNNING else int(self.mean.partition(":")[2])

    def _check_target(self) -> None:
        """Raise `UsageError` where the target cannot do what the other options ask."""
        if self.precision == AUTO and self.target != "onnx":
            raise UsageError(
                "the precision auto measures candidates in ONNX Runtime on this machine's "
                f"CPU, which says nothing about the target {self.target}. Name a precision."
            )
        if self.target == "cuda" and self.precision == "int8":
            raise UsageError(
                "ONNX Runtime computes a quantised graph in float on CUDA: int8 would cost "
                "accuracy there and gain nothing. Use --target trt for int8 on a GPU, or "
                "leave --precision out."
            )
        if self.cpu_isa != AUTO and not (self.target == "onnx" and self.may_quantize):
            raise UsageError(
                f"--cpu-isa {self.cpu_isa} says for which processors int8 is made, and "
                f"{self.precision} for the target {self.target} does not depend on them. "
                "Leave it out, or give --target onnx --precision int8."
            )
        if self.layout not in (AUTO, *LAYOUTS[self.target]):
            raise UsageError(
                f"the layout {self.layout!r} is none of {', '.join(LAYOUTS[self.target])} for "
                f"the target {self.target}, nor {AUTO!r}."
            )
        if self.cuda_graph and self.target not in CUDA_GRAPH_TARGETS:
            raise UsageError(
                f"--cuda-graph is for the targets {' and '.join(CUDA_GRAPH_TARGETS)}, not for "
                f"{self.target}. Leave it out."
            )
        if self.target != "trt" and (self.trt != TensorRTSettings() or self.bundle_only):
            raise UsageError(
                f"options of TensorRT were given for the target {self.target}. Leave them "
                "out, or give --target trt."
            )
