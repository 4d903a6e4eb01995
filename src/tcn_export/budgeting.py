"""int8 that loses no more than it may: other ranges and remedies, then layers in float32.

1. Ranges by every method, with and without equalised channels, then with corrected biases: the
   way with the least noise at the answer is taken. It is measured on training windows, without
   labels, so it costs the verdict nothing.
2. The layers are ranked by their own damage: each is quantised alone, and the noise at the
   answer is measured on the same windows.
3. The most harmful layers stay in float32, as few as keep the budget, found by bisection among
   candidates that differ by half the noise or more. They are judged on the test windows; since
   one of several is taken, each is held to a bound that is so many times less often wrong
   (Bonferroni): together the candidates hold at 95 %. Plain int8 was held to 95 % of its own
   before, so that of exports that needed this search one in ten may be wrong at worst.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tcn_export.damage import Damage, Meter, best_recipe, rank_layers
from tcn_export.export_data import one_window
from tcn_export.fewest import bisect_fewest, looks_for, thinned, worth_a_look
from tcn_export.judging import Stages, judge
from tcn_export.making import Made, Workshop
from tcn_export.parity.bounds import windows_needed
from tcn_export.parity.rows import ParityReport
from tcn_export.parity.statistics import FEWEST_ERRORS
from tcn_export.parity.windows import FEED
from tcn_export.quantize.recipe import Recipe
from tcn_export.racing import cycle, race_runners
from tcn_export.targets import load_target

_RACE_CYCLES = 6


def is_too_lossy(workshop: Workshop, made: Made) -> bool:
    """Whether int8 failed for what it costs on real windows, and may be made otherwise."""
    failures = made.report.failures
    return (
        made.built.artifact.precision == "int8"
        and not workshop.options.int8_only
        and workshop.data is not None
        and workshop.data.kind == "real"
        and bool(failures)
        and all(row.feed == FEED and row.metric != "form" for row in failures)
    )


def meet_budget(workshop: Workshop, plain: Made) -> Made:
    """Make int8 that the gate accepts, or the best there is.

    Args:
        workshop: What candidates are made from; asked for int8.
        plain: The default, which lost too much.

    Returns:
        The candidate with the fewest layers in float32 that passes, or where none does the one
        that loses least; its manifest entry ``budget`` tells the search.
    """
    meter = Meter(workshop)
    recipe = best_recipe(meter, workshop.options.calibration)
    ranking = rank_layers(workshop, meter, recipe)
    if not ranking:
        return plain
    # One layer in integers at least, or it is no int8.
    noise = [meter.sqnr_db(_keeping(recipe, ranking[:kept])) for kept in range(len(ranking))]
    candidates = worth_a_look(meter.sqnr_db(Recipe(workshop.options.calibration)), noise)
    looks = looks_for(len(candidates), lambda alpha: _can_pass(workshop, alpha))
    candidates = thinned(candidates, looks)
    tried: list[dict[str, Any]] = [
        _attempt(Recipe(workshop.options.calibration), plain.report, 1)
    ]
    reports: dict[int, ParityReport] = {}

    def passes(kept: int) -> bool:
        candidate = _keeping(recipe, ranking[:kept])
        reports[kept] = _judge(workshop, meter, candidate, looks)
        tried.append(_attempt(candidate, reports[kept], looks, kept))
        return reports[kept].verdict == "pass"

    kept = bisect_fewest(passes, candidates, looks)
    if kept is None:
        kept = min(reports, key=lambda k: _severity(reports[k]))
    made = workshop.make(_keeping(recipe, ranking[:kept]), looks)
    entry = {
        "max_drop": workshop.options.max_drop,
        "layers": [damage.to_json() for damage in ranking],
        "in_float": [damage.layer.name for damage in ranking[:kept]],
        "recipe": recipe.to_json(),
        "recipes": meter.to_json(),
        "tried": tried,
        "looks": looks,
        "latency_us": _price(workshop, plain, made),
    }
    assert made.built.quantization is not None
    told = {**made.built.quantization, "budget": entry}
    return replace(made, built=replace(made.built, quantization=told))


def _can_pass(workshop: Workshop, alpha: float) -> bool:
    """Whether there are windows enough for a bound that is wrong so often."""
    assert workshop.data is not None
    windows = workshop.data.parity
    if windows.y is None:
        return True  # no bound is asked for
    if not windows.is_classification:
        return len(windows) >= FEWEST_ERRORS
    fewest = windows_needed(workshop.options.max_drop, alpha)
    return fewest is None or len(windows) >= fewest


def _keeping(recipe: Recipe, kept: list[Damage]) -> Recipe:
    nodes = frozenset[str]().union(*(damage.layer.nodes for damage in kept))
    return replace(recipe, in_float=nodes)


def _judge(workshop: Workshop, meter: Meter, recipe: Recipe, looks: int) -> ParityReport:
    """The verdict on a candidate in the first layout, in ONNX Runtime on the CPU."""
    artifact = meter.artifact(recipe)
    _, report = judge(
        workshop.references,
        artifact,
        Stages(),
        workshop.data,
        workshop.options,
        workshop.progress,
        looks,
    )
    return report


def _attempt(
    recipe: Recipe, report: ParityReport, looks: int, kept: int = 0
) -> dict[str, Any]:
    loss = report.loss or {}
    return {
        "recipe": recipe.to_json(),
        "in_float": kept,
        "lost_points": loss.get("lost_points"),
        "upper_points": loss.get("upper_points"),
        "looks": looks,
        "verdict": report.verdict,
    }


def _severity(report: ParityReport) -> tuple[float, ...]:
    """How far a report is from passing: the bound of the loss, or the failed rows."""
    loss = report.loss or {}
    upper = loss.get("upper_points")
    return (float("inf") if upper is None else upper, float(len(report.failures)))


def _price(workshop: Workshop, plain: Made, made: Made) -> Mapping[str, float] | None:
    """Median latency of float32, of plain int8 and of what was made, in turns; one thread."""
    if made.built.artifact.target != "onnx" or plain.built.stages.before is None:
        return None
    artifacts = {
        "float32": plain.built.stages.before,
        "int8": plain.built.artifact,
        "chosen": made.built.artifact,
    }
    runners = {n: load_target(a.target).runner(a, 1) for n, a in artifacts.items()}
    feed = one_window(workshop.source, workshop.graph.signature, workshop.options.seed)
    rounds = _RACE_CYCLES * cycle(len(runners))
    with workshop.progress.stage("Timing what the budget costs", rounds) as advance:
        timings = race_runners(runners, dict.fromkeys(runners, feed), rounds, advance)
    return {name: round(1e6 * timing.median, 1) for name, timing in timings.items()}
