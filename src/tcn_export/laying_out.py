"""Equal graphs of several layouts, timed in the target's runtime; the fastest is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tcn_export import machine
from tcn_export.data import Array
from tcn_export.graph import Graph
from tcn_export.options import AUTO, LAYOUTS, ExportOptions
from tcn_export.progress import Progress
from tcn_export.racing import Timing, cycle, race_runners
from tcn_export.targets import load_target
from tcn_export.targets.base import Artifact

THREADS = 1
"""What a small device has to spare; and what the latency in the manifest is measured with."""
_CYCLES = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """The layout that was taken.

    Attributes:
        name: Of the layout.
        others: Artifacts of the others, by name; for a device that wants to choose again.
        timings: Of all that were measured; none where there was nothing to choose.
        coverage: How many convolutions of each run on integers; for int8 only.
    """

    name: str
    others: Mapping[str, Artifact] = field(default_factory=dict)
    timings: Mapping[str, Timing] = field(default_factory=dict)
    coverage: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        """The models of the others, by file name."""
        return {file_of(name): a.files[a.model] for name, a in self.others.items()}

    def to_json(self, model: str) -> dict[str, Any] | None:
        """The entry of the manifest; ``model`` is the file name of the chosen one."""
        if not self.timings:
            return None
        candidates: list[dict[str, Any]] = []
        for name, timing in self.timings.items():
            latency = timing.latency(THREADS)
            entry = {
                "name": name,
                "file": model if name == self.name else file_of(name),
                "median_us": round(latency.median_us, 1),
                "p90_us": round(latency.p90_us, 1),
            }
            counted = {"coverage": self.coverage[name]} if name in self.coverage else {}
            candidates.append(entry | counted)
        return {
            "choice": self.name,
            "measured_on": machine.host(),
            "threads": THREADS,
            "candidates": candidates,
        }


def file_of(layout: str) -> str:
    """The file of a candidate that was not taken."""
    return f"layout-{layout}.onnx"


def layouts(graph: Graph, options: ExportOptions) -> dict[str, Graph]:
    """The graph in every layout that is to be considered; equal ones once.

    TensorRT is asked for one: to build engines for several takes minutes.
    """
    from tcn_export.rewrite.base import run_plan
    from tcn_export.rewrite.plans import LAYOUTS as PLANS

    if options.layout != AUTO:
        names: tuple[str, ...] = (options.layout,)
    else:
        names = (
            LAYOUTS[options.target][:1] if options.target == "trt" else LAYOUTS[options.target]
        )
    found: dict[str, Graph] = {}
    for name in names:
        laid_out = run_plan(PLANS[name], graph)
        changes = [step.name for step in laid_out.history if step.modified]
        if changes not in ([s.name for s in g.history if s.modified] for g in found.values()):
            found[name] = laid_out
    return found


def choose(
    artifacts: Mapping[str, Artifact], feeds: Mapping[str, Array], progress: Progress
) -> Choice:
    """Time artifacts in turns, one window at a time, and take the fastest.

    Args:
        artifacts: By name of their layout, all for the same target.
        feeds: One window.
        progress: Told of every round.

    Raises:
        ExportError: One of them does not run here.
    """
    if len(artifacts) == 1:
        return Choice(next(iter(artifacts)))
    runners = {
        name: load_target(artifact.target).runner(artifact, THREADS)
        for name, artifact in artifacts.items()
    }
    rounds = _CYCLES * cycle(len(runners))
    with progress.stage("Choosing the layout", rounds) as advance:
        timings = race_runners(runners, dict.fromkeys(runners, feeds), rounds, advance)
    fastest = min(timings, key=lambda name: timings[name].median)
    others = {name: a for name, a in artifacts.items() if name != fastest}
    return Choice(fastest, others, timings)
