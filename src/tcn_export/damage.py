"""What quantisation does to the answer: noise, by recipe and by layer, on training windows.

No label is asked and no test window seen: what is chosen by this leaves the verdict of the
gate as honest as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcn_export.data import batches
from tcn_export.graph import Graph
from tcn_export.laying_out import layouts
from tcn_export.parity.metrics import sqnr_db
from tcn_export.quantize.dialects import METHODS, Method
from tcn_export.quantize.layers import Layer, layers
from tcn_export.quantize.recipe import Recipe
from tcn_export.quantizing import equalized, find_ranges, write
from tcn_export.targets import load_target
from tcn_export.targets.base import Artifact

if TYPE_CHECKING:
    from tcn_export.making import Workshop
    from tcn_export.quantize.calibration import Ranges

SEARCH_WINDOWS = 256
_GAIN_DB = 0.1
"""A remedy that gains less is not worth its name in the report."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A layer, and the signal-to-noise ratio at the answer where it alone is quantised."""

    layer: Layer
    sqnr_db: float

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest."""
        return {
            "layer": self.layer.name,
            "node": self.layer.node,
            "sqnr_db": _plain(self.sqnr_db),
        }


class Meter:
    """Measures the noise of int8 candidates against float32, in one layout, on the CPU.

    Args:
        workshop: What candidates are made from.
    """

    def __init__(self, workshop: Workshop) -> None:
        assert workshop.data is not None
        assert workshop.data.calibration is not None
        self._workshop = workshop
        self._data = workshop.data
        self._windows = workshop.data.calibration.spread(SEARCH_WINDOWS).x
        self._ranges: dict[tuple[str, bool], Ranges] = {}
        self._graphs = {False: self._laid_out(workshop.graph)}
        plain = load_target("onnx").build(self._graphs[False], "float32")
        self._wanted = self._answers(plain).astype(np.float64)
        self._noise: dict[Recipe, float] = {}

    @property
    def graph(self) -> Graph:
        """The float32 graph that is measured, not equalised."""
        return self._graphs[False]

    def artifact(self, recipe: Recipe) -> Artifact:
        """The candidate of a recipe."""
        graph, options = self._graph(recipe.equalize), self._workshop.options
        key = recipe.calibration, recipe.equalize
        if key not in self._ranges:
            self._ranges[key] = find_ranges(
                graph, self._data, options, recipe.calibration, self._workshop.progress
            )
        made = write(graph, self._ranges[key], self._data, options, recipe)
        return load_target("onnx").build(made, "int8")

    def sqnr_db(self, recipe: Recipe) -> float:
        """Signal-to-noise ratio at the answer, in dB."""
        if recipe not in self._noise:
            self._noise[recipe] = sqnr_db(self._answers(self.artifact(recipe)), self._wanted)
        return self._noise[recipe]

    def to_json(self) -> list[dict[str, Any]]:
        """Every recipe that was measured with all layers in integers, for the manifest."""
        return [
            {**recipe.to_json(), "sqnr_db": _plain(noise)}
            for recipe, noise in self._noise.items()
            if not recipe.in_float
        ]

    def _graph(self, equalize: bool) -> Graph:
        if equalize not in self._graphs:
            self._graphs[equalize] = self._laid_out(equalized(self._workshop.graph))
        return self._graphs[equalize]

    def _laid_out(self, graph: Graph) -> Graph:
        return next(iter(layouts(graph, self._workshop.options).values()))

    def _answers(self, artifact: Artifact) -> NDArray[Any]:
        runner = load_target("onnx").runner(artifact)
        name, output = artifact.signature.inputs[0].name, artifact.signature.outputs[0].name
        parts = [runner.run({name: batch})[output] for batch in batches(self._windows)]
        return np.concatenate(parts)


def best_recipe(meter: Meter, asked: Method) -> Recipe:
    """The way of quantising all layers that makes the least noise at the answer.

    Args:
        meter: Measures.
        asked: The method that the user asked for; others have to be better to replace it.
    """
    plain = [Recipe(asked), *(Recipe(m) for m in METHODS)]  # type: ignore[arg-type]
    equal = [replace(recipe, equalize=True) for recipe in plain]
    best = _better(meter, plain[0], (*plain, *equal))
    return _better(meter, best, [replace(best, correct_bias=True)])


def rank_layers(workshop: Workshop, meter: Meter, recipe: Recipe) -> list[Damage]:
    """All layers, the most harmful first: those whose own quantisation leaves the least."""
    found = layers(meter.graph, workshop.options.dialect)
    everything = frozenset[str]().union(*(layer.nodes for layer in found))
    ranked = []
    with workshop.progress.stage("Ranking the layers", len(found)) as advance:
        for layer in found:
            alone = replace(recipe, correct_bias=False, in_float=everything - layer.nodes)
            ranked.append(Damage(layer, meter.sqnr_db(alone)))
            advance()
    return sorted(ranked, key=lambda damage: damage.sqnr_db)


def _better(meter: Meter, best: Recipe, others: Iterable[Recipe]) -> Recipe:
    for recipe in others:
        if meter.sqnr_db(recipe) > meter.sqnr_db(best) + _GAIN_DB:
            best = recipe
    return best


def _plain(decibels: float) -> float | str:
    """JSON has no infinity."""
    return round(decibels, 2) if np.isfinite(decibels) else str(decibels)
