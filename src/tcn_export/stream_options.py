"""What may be asked of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcn_export.errors import UsageError
from tcn_export.graph import LONGEST

if TYPE_CHECKING:
    from tcn_export.options import ExportOptions

RUNNING = "running"
"""Given as mean: the one over all steps since the stream began."""
STATE_FORMS = ("concat", "ring")
"""How a stream keeps states: put in front of the new steps, or written into rings."""
_DIGITS = 12
"""Of a number that is looked at; longer ones are none."""


def check_stream(options: ExportOptions) -> None:
    """Raise `UsageError` where options of streams contradict others, or each other."""
    if options.mode != "stream":
        for name, value in (("hop", options.hop), ("mean", options.mean)):
            if value is not None:
                raise UsageError(
                    f"--{name} {value} is about streams. Give --mode stream, or leave it out."
                )
        if options.state_form in STATE_FORMS:
            raise UsageError(
                f"--state-form {options.state_form} is about streams. Give --mode stream, or "
                "leave it out."
            )
        return
    if not 1 <= options.steps_per_hop <= LONGEST:
        raise UsageError(f"the hop is {options.hop}; expected 1 to {LONGEST:,} steps.")
    if options.mean is not None and options.mean != RUNNING:
        kind, _, steps = options.mean.partition(":")
        is_number = steps.isascii() and steps.isdigit() and len(steps) < _DIGITS
        if kind != "window" or not is_number:
            raise UsageError(
                f"the mean is {options.mean!r}; expected {RUNNING!r}, or window:W for the "
                "last W steps."
            )
        if not 1 <= int(steps) <= LONGEST:
            raise UsageError(f"the mean is over {steps} steps; expected 1 to {LONGEST:,}.")
    if options.state_form == "ring" and options.steps_per_hop != 1:
        raise UsageError(
            f"rings take one step at a time, and the hop is {options.hop}. Use --state-form "
            "concat, or --hop 1."
        )
    is_plain = options.target == "onnx" and options.precision == "float32"
    if options.state_form == "ring" and not is_plain:
        raise UsageError(
            "rings are for float32 in ONNX Runtime on the CPU; other targets and "
            "precisions take --state-form concat."
        )
    if options.precision == "auto":
        raise UsageError("a stream takes one precision: name float32, float16 or int8.")
    if options.layout != "auto" or options.keep_all_steps:
        raise UsageError(
            "--layout and --keep-all-steps are about windows: a stream has a form of its "
            "own, and computes every step once. Leave them out."
        )
