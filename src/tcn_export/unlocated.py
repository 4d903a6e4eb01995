"""Parity was lost, and no layer is outside its limits: why?"""

from __future__ import annotations

from collections.abc import Mapping

from tcn_export.bundle import Bundle
from tcn_export.data import Array
from tcn_export.parity.golden import Golden
from tcn_export.parity.layers import Recorded
from tcn_export.parity.sketch import look_at
from tcn_export.parity.tolerance import layer_noise


def why_no_layer(bundle: Bundle, recorded: Recorded, golden: Golden, model: bytes) -> str:
    """Say what else can be wrong: a rewrite, a fusion of the runtime, or other signals.

    Args:
        bundle: As it was exported.
        recorded: What it kept of its layers.
        golden: Its golden data.
        model: What was judged.
    """
    from tcn_export.targets.segments import run_whole

    precision = bundle.manifest.precision
    where = f"{recorded.windows} windows of `{recorded.feed}`"
    eager = golden.references[recorded.feed].float64
    if not _is_right(recorded, "float32", _first(eager, recorded.windows)):
        return (
            "the float32 graph that the layers are held against is not what the eager model "
            "computes: the fault is in how the model was read or rewritten, before any layer "
            f"was converted to {precision}"
        )
    (feed,) = (feed for feed in golden.feeds if feed.name == recorded.feed)
    signals = _first(feed.inputs, recorded.windows)
    if _is_right(recorded, precision, run_whole(model, signals, is_optimized=True)):
        return (
            f"on {where} the whole is within its limits, too; what failed shows on other "
            "signals only"
        )
    told = "the pieces are right, the whole is not: a fusion of the runtime"
    if _is_right(recorded, precision, run_whole(model, signals, is_optimized=False)):
        return f"{told}; with ORT_DISABLE_ALL as graph_optimization_level it is right"
    return f"{told} that ORT_DISABLE_ALL does not leave out"


def _first(values: Mapping[str, Array], windows: int) -> dict[str, Array]:
    return {name: value[:windows] for name, value in values.items()}


def _is_right(recorded: Recorded, precision: str, outputs: Mapping[str, Array]) -> bool:
    """Whether outputs keep to the limits that the last layers have."""
    for name, value in outputs.items():
        wanted = recorded.reference.get(name)
        if wanted is None:
            continue
        noise = recorded.float32_noise[name]
        allowed = layer_noise(precision, recorded.kind, wanted.energy, noise)
        if not look_at(value).noise(wanted) <= allowed:
            return False
    return True
