"""``report.html``: one page that holds everything it shows, readable without network.

Text comes from files that anyone may have written, so the templates escape all of it, and the
page forbids itself scripts and requests. It draws with what `load_bundle` has checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tcn_export.bundle import Bundle
from tcn_export.errors import MissingExtraError
from tcn_export.parity.golden import GOLDEN_FILE, Golden, golden_from_bytes
from tcn_export.parity.rows import ORACLE, ParityReport
from tcn_export.report import decisions, words
from tcn_export.report.dependence import cone_strips, dependence_lines
from tcn_export.report.error_histogram import error_histogram
from tcn_export.report.facts import facts
from tcn_export.report.signals import Outputs, shown_feeds

if TYPE_CHECKING:
    from jinja2 import Template

HTML_FILE = "report.html"
_TEMPLATE = "report.html.j2"


def html_bytes(bundle: Bundle, report: ParityReport, threads: int = 0) -> bytes:
    """The page of a bundle.

    The artifact runs once more on the golden inputs, unless ``report`` says that it cannot.

    Args:
        bundle: Its manifest, model and golden data; it need not be written yet.
        report: The verdict to tell: of the export, or of a verification.
        threads: Threads of the runtime; 0 takes all cores.

    Raises:
        MissingExtraError: The package that fills the page's templates is not installed.
        BundleError: The golden data are damaged.
    """
    check_available()
    golden = golden_from_bytes(bundle.files[GOLDEN_FILE])
    outputs = None if report.missing else _answers(bundle, golden, threads)
    return _template().render(_content(bundle, report, golden, outputs)).encode()


def check_available() -> None:
    """Tell, before any work is spent, whether a page can be made here.

    Raises:
        MissingExtraError: The package that fills the page's templates is not installed.
    """
    if find_spec("jinja2") is None:
        raise MissingExtraError(
            "the page needs `jinja2`, which the extra `export` brings and which is not "
            "installed here. Install it with: pip install jinja2"
        )


def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tcn_export.report"),
        autoescape=True,  # every name of a file is a stranger's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE)


def _answers(bundle: Bundle, golden: Golden, threads: int) -> Outputs:
    runner = bundle.runner(threads)
    outputs = {}
    for feed in golden.feeds:
        runner.reset()
        outputs[feed.name] = runner.run(feed.inputs)
    return outputs


def _content(
    bundle: Bundle, report: ParityReport, golden: Golden, outputs: Outputs | None
) -> dict[str, Any]:
    """What the template asks for, by name."""
    manifest, entries = bundle.manifest, bundle.manifest.to_json()
    return {
        "name": bundle.path.name,
        "manifest": entries,
        "tone": words.tone(report),
        "verdict": words.verdict(report),
        "advice": _advice(report),
        "tiles": _tiles(bundle),
        "bad_rows": words.at_level(report, "failed", "undecided"),
        "rows": report.rows,
        "words": words,
        "confusions": decisions.confusions(entries),
        "classes": _class_rows(entries["parity"].get("scores")),
        "feeds": shown_feeds(manifest, golden, outputs),
        "histogram": None if outputs is None else error_histogram(golden, outputs),
        "layers": decisions.layer_bars(entries),
        "quantization": decisions.quantization_lines(entries),
        "damage": decisions.damage_bars(entries),
        "candidate_name": decisions.candidate_name,
        "candidates": entries.get("candidates") or (),
        "latency": decisions.latency_bars(entries),
        "cone": cone_strips(entries),
        "dependence": dependence_lines(entries),
        "warnings": (entries["dependence"] or {}).get("warnings", ()),
        "origin": _origin(entries),
    }


def _advice(report: ParityReport) -> str:
    """What the verdict means for somebody who has to decide."""
    if report.verdict == "fail":
        return "It does not compute what the PyTorch model computes. Do not ship it."
    if report.verdict != "pass":
        return "The data are too few to say whether it keeps its accuracy. It is no proof."
    if report.missing:
        return "It has not run yet where it is meant to run. It is no proof."
    if report.waived:
        return "What was checked agrees with the PyTorch model; what was waived is open."
    return "It answers like the PyTorch model, within limits set by the model itself."


def _tiles(bundle: Bundle) -> dict[str, str]:
    """The figures at the head of the page."""
    model = bundle.files[bundle.manifest.model]
    return {**facts(bundle.manifest.to_json()), "model": f"{len(model) / 1024:.1f} KB"}


def _class_rows(scores: Mapping[str, Any] | None) -> list[tuple[Any, Any]]:
    """Scores by class, of the eager model and of the artifact."""
    before, after = ((scores or {}).get(side, {}) for side in ("reference", "actual"))
    return list(zip(before.get("classes", ()), after.get("classes", ()), strict=False))


def _origin(entries: Mapping[str, Any]) -> list[tuple[str, str]]:
    source = entries["source"]
    changes = [f"{step['name']} x{step['modified']}" for step in entries["rewrites"]]
    lines = [
        ("source", f"{source['file']} ({source['kind']})"),
        ("its sha256", str(source["sha256"])),
        ("rewrites", ", ".join(changes) or "none"),
        ("tools", ", ".join(f"{name} {v}" for name, v in entries["tools"].items())),
        ("exported on", str(entries["host"]["cpu"])),
    ]
    if entries["parity"]["oracle"] != ORACLE:
        lines.insert(0, ("compared with", str(entries["parity"]["oracle"])))
    return lines
