"""What an export gives: the precision that was asked for, or the fastest that passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tcn_export.budgeting import is_too_lossy, meet_budget
from tcn_export.errors import UnsupportedModelError
from tcn_export.export_data import one_window
from tcn_export.laying_out import THREADS
from tcn_export.making import Made, Workshop
from tcn_export.options import AUTO
from tcn_export.racing import Timing, cycle, race_runners
from tcn_export.saturating import saturation
from tcn_export.targets import load_target

PAYS = 1.1
"""int8 has to be so many times as fast as float32: it always costs some accuracy."""
_RACE_CYCLES = 12


def make(workshop: Workshop) -> Made:
    """Make what the options ask for; int8 so that it keeps its budget, if that can be.

    Raises:
        ExportError: What its subclasses say.
    """
    made = _make(workshop)
    artifact, how = made.built.artifact, made.built.quantization
    is_window = artifact.mode == "window"
    if how is None or how["isa"] != "vnni" or artifact.target != "onnx" or not is_window:
        return made
    assert workshop.data is not None
    classifies = workshop.source.task == "classification"
    found = saturation(artifact, workshop.data.parity, classifies, workshop.progress)
    return replace(made, built=replace(made.built, quantization={**how, "saturation": found}))


def _make(workshop: Workshop) -> Made:
    if workshop.options.precision == AUTO:
        return _fastest_that_passes(workshop)
    made = workshop.make()
    if workshop.options.mode == "stream" or not is_too_lossy(workshop, made):
        return made
    return meet_budget(workshop, made)


def _fastest_that_passes(workshop: Workshop) -> Made:
    """Make every candidate, judge and time it.

    Args:
        workshop: What candidates are made from; asked for ``auto``.

    Returns:
        The one that was taken, with what spoke against the others.
    """
    made = {"float32": workshop.asked(precision="float32", cpu_isa="auto").make()}
    try:
        made["int8"] = _make(workshop.asked(precision="int8"))
    except UnsupportedModelError:  # then there is nothing to choose from
        return made["float32"]
    timings = _race(workshop, made)
    gain = timings["float32"].median / timings["int8"].median
    reasons = {"float32": "", "int8": _against_int8(made["int8"], gain)}
    chosen = "float32" if reasons["int8"] else "int8"
    if not reasons["int8"]:
        reasons = {
            "float32": f"int8 is {gain:.2f} times as fast, and passes",
            "int8": f"{gain:.2f} times as fast as float32",
        }
    else:
        reasons["float32"] = "int8 is rejected"
    candidates: tuple[Mapping[str, Any], ...] = tuple(
        {
            "precision": name,
            "in_float": _in_float(candidate),
            "median_us": round(1e6 * timings[name].median, 1),
            "verdict": candidate.report.verdict,
            "reason": reasons[name],
            "chosen": name == chosen,
        }
        for name, candidate in made.items()
    )
    return replace(made[chosen], candidates=candidates)


def _against_int8(made: Made, gain: float) -> str:
    """Why int8 is not taken; "" where it is."""
    if made.report.verdict == "undecided":
        return "int8 rejected: so few windows cannot decide what it loses"
    if made.report.verdict == "fail":
        loss = made.report.loss
        if loss is None or loss["upper_points"] is None:
            return "int8 rejected: parity was lost"
        return f"int8 rejected: it may lose {loss['upper_points']:.2f} points"
    if made.report.waived_bounds:
        return "int8 rejected: what it loses was waived, not shown"
    if gain < PAYS:
        return (
            f"int8 rejected: {gain:.2f}x float32's speed, under the {PAYS:g}x that pays for it"
        )
    return ""


def _race(workshop: Workshop, made: Mapping[str, Made]) -> dict[str, Timing]:
    artifacts = {name: candidate.built.artifact for name, candidate in made.items()}
    runners = {n: load_target(a.target).runner(a, THREADS) for n, a in artifacts.items()}
    feed = one_window(workshop.source, workshop.graph.signature, workshop.options.seed)
    rounds = _RACE_CYCLES * cycle(len(runners))
    with workshop.progress.stage("Choosing the precision", rounds) as advance:
        return race_runners(runners, dict.fromkeys(runners, feed), rounds, advance)


def _in_float(made: Made) -> list[str]:
    return list((made.built.quantization or {}).get("in_float", ()))
