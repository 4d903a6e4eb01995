"""One candidate of an export: built from the simplified graph, and judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tcn_export.building import Built, build
from tcn_export.export_data import ExportData
from tcn_export.graph import Graph
from tcn_export.judging import judge
from tcn_export.options import ExportOptions
from tcn_export.parity.golden import Golden
from tcn_export.parity.rows import ParityReport
from tcn_export.progress import Progress
from tcn_export.quantize.recipe import Recipe
from tcn_export.referring import References

if TYPE_CHECKING:
    from tcn_export.source.base import Source


@dataclass(frozen=True, slots=True)
class Made:
    """An artifact, how it was built, and what the gate says of it.

    ``candidates`` are those of ``--precision auto``, as the manifest has them.
    """

    built: Built
    golden: Golden
    report: ParityReport
    candidates: tuple[Mapping[str, Any], ...] | None = None


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every candidate of one export is made from, and judged by.

    Attributes:
        graph: The float32 graph, simplified.
        source: Holds the eager model.
        data: Windows that calibrate and judge; None for the stress set alone.
        references: The eager model's answers.
        options: What was asked.
        progress: Told of every stage.
    """

    graph: Graph
    source: Source
    data: ExportData | None
    references: References
    options: ExportOptions
    progress: Progress

    def make(self, recipe: Recipe | None = None, looks: int = 1) -> Made:
        """Build and judge one candidate; ``looks`` as in `judging.judge`."""
        recipe = recipe or Recipe(self.options.calibration)
        built = build(self.graph, self.source, self.data, self.options, recipe, self.progress)
        golden, report = judge(
            self.references,
            built.artifact,
            built.stages,
            self.data,
            self.options,
            self.progress,
            looks,
        )
        return Made(built, golden, report)

    def asked(self, **options: Any) -> Workshop:
        """The same with other options."""
        return replace(self, options=replace(self.options, **options))
