from __future__ import annotations

import html
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from bundles import fit_hashes
from report import outcomes
from report.pages import LAYERS, filled, page_of
from support import make_checkpoint, make_data, run, run_without_torch
from tcn_export.bundle import load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.errors import MissingExtraError
from tcn_export.models.tcn import TCNConfig
from tcn_export.parity.golden import Feed, Golden, Reference
from tcn_export.parity.rows import ParityReport
from tcn_export.report import html as html_module
from tcn_export.report.error_histogram import error_histogram
from tcn_export.report.html import html_bytes
from tcn_export.verification import verify

VOID = {"meta"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps text and titles of sections."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.headings = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def test_export_writes_a_page_that_says_the_verdict_first(tiny_exports):
    raw = (tiny_exports["int8"] / "report.html").read_bytes()
    assert len(raw) < 300_000
    page = raw.decode()
    body = page[page.index("<body>") :]
    text = re.sub(r"<[^>]+>", " ", body).split()
    assert " ".join(text).startswith("tiny-onnx-int8 Verified: ")
    assert Page(page).headings == [
        "Accuracy by class", "Signals and answers", "How large the errors are",
        "Where the error arises", "Decisions", "Latency",
        "What an answer depends on", "Every check", "Origin",
    ]  # fmt: skip
    assert "report.html" in load_bundle(tiny_exports["int8"]).manifest.files


def test_every_section_shows_what_the_manifest_holds(tiny_exports):
    bundle = filled(load_bundle(tiny_exports["int8"]))
    page = html_bytes(bundle, verify(bundle)).decode()
    found = Page(page)
    assert {"Accuracy by class", "Where the error arises", "Decisions"} <= set(found.headings)
    for told in (
        "accuracy 92.10 % → 91.40 %", "at most 1.40 with 95 % confidence", "18.0 dB",
        "the first outside its limit", f"{LAYERS[1]}: 1.2 % of its sums", "use --cpu-isa avx2",
        "kept in float32", "51.0 \u00b5s", "<small>-3</small>", "<small>+3</small>",
    ):  # fmt: skip
        assert told in page, told
    assert page.count("the first outside its limit") == 1


def test_figures_that_do_not_belong_together_are_left_out(tiny_exports):
    """The form of a manifest allows these; an altered one must not end in a traceback."""
    bundle = filled(load_bundle(tiny_exports["int8"]))
    parity = dict(bundle.manifest.parity)
    ragged = {**parity["scores"]["actual"], "confusion": [[1], [2, 3]], "classes": []}
    layers = [{**parity["layers"][0], "sqnr_db": "loud", "limit_db": "inf"}]
    for actual in (ragged, {"rmse": 1.0, "mae": None}):
        scores = {**parity["scores"], "actual": actual}
        changed = {**parity, "scores": scores, "layers": layers}
        manifest = replace(bundle.manifest, parity=changed)
        page = html_bytes(replace(bundle, manifest=manifest), verify(bundle)).decode()
        assert "Accuracy by class" not in page
        assert "nan dB" in page


def test_page_asks_for_nothing_and_runs_nothing(tiny_exports):
    tags = Page(page_of(tiny_exports["float32"])).tags
    assert not {"script", "link", "img", "iframe", "object", "base"} & {tag for tag, _ in tags}
    assert not {"src", "href", "srcset", "onload"} & {name for _, a in tags for name in a}
    policies = [a["content"] for tag, a in tags if a.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_hostile_names_are_text(tiny_exports):
    bundle = load_bundle(tiny_exports["float32"])
    bad = outcomes.HOSTILE + '" onload="x'
    classes = (f"0{bad}", *bundle.manifest.classes[1:])
    source = {**bundle.manifest.source, "file": bad}
    manifest = replace(bundle.manifest, classes=classes, source=source)
    bundle = filled(replace(bundle, manifest=manifest))
    bundle = replace(bundle, manifest=replace(bundle.manifest, quantization=None))
    page = html_bytes(bundle, outcomes.hostile().report).decode()
    assert "<script" not in page
    assert 'onload="' not in page
    assert html.escape("<script>alert(1)</script>") in page
    Page(page)


def test_what_failed_comes_before_everything_else(tiny_exports):
    rows = (*outcomes.ROWS, outcomes.FAILED)
    page = page_of(tiny_exports["float32"], ParityReport(rows))
    assert Page(page).headings[0] == "What failed"
    assert "Do not ship it." in page
    assert page.index("2 x noise") < page.index("Signals and answers")


@pytest.mark.parametrize(
    ("report", "tone"),
    [
        (ParityReport((outcomes.PASSED,)), "good"),
        (ParityReport((outcomes.FAILED,)), "bad"),
        (ParityReport(()), "bad"),
        (ParityReport((outcomes.PASSED,), waived=("real data",)), "unclear"),
        (ParityReport((outcomes.PASSED,), missing="not built here"), "unclear"),
    ],
)
def test_only_verified_is_green(tiny_exports, report, tone):
    page = page_of(tiny_exports["float32"], report)
    assert f'<section class="verdict {tone}">' in page
    assert ("How large the errors are" in page) == (not report.missing)


def test_verify_writes_the_page_of_what_it_found(tiny_exports, tmp_path):
    ran = run(verify_command, tiny_exports["float32"], "--html", tmp_path / "p.html", "-q")
    assert ran.code == 0
    told = verify(load_bundle(tiny_exports["float32"]))
    assert f"{len(told.rows)} rows" in (tmp_path / "p.html").read_text()


def test_page_needs_no_torch(tiny_exports, tmp_path):
    page = tmp_path / "p.html"
    ran = run_without_torch("verify", tiny_exports["float32"], "--html", page)
    assert (ran.code, page.exists()) == (0, True), ran.stderr


def test_missing_package_is_named_before_any_work(tiny_exports, tmp_path, monkeypatch):
    monkeypatch.setattr(html_module, "find_spec", lambda name: None)
    ran = run(verify_command, tiny_exports["float32"], "--html", tmp_path / "p.html")
    assert (ran.code, "pip install jinja2" in ran.stderr) == (4, True)
    assert "Comparing" not in ran.stderr
    with pytest.raises(MissingExtraError, match=r"`jinja2`.*pip install jinja2"):
        page_of(tiny_exports["float32"])


@pytest.mark.parametrize("head", ["last", "every"])
def test_long_regressions_and_answers_per_step_stay_small(tmp_path, head):
    config = TCNConfig(in_channels=9, outputs=3, widths=(6, 6), dilations=(1, 2), head=head)
    regression = {"task": "regression", "classes": ()} if head == "last" else {}
    model = make_checkpoint(tmp_path / "m.pt", config, length=3000, **regression)
    data = make_data(tmp_path / "d.npz", model, 12)
    ran = run(export_command, model, "--target", "onnx", "--data", data, "--out", tmp_path)
    assert ran.code == 0, ran.stdout
    raw = (tmp_path / "m-onnx-float32" / "report.html").read_bytes()
    assert len(raw) < 300_000
    page = raw.decode()
    assert "and 3 more channels" in page
    assert "3000 steps, 60 s" in page
    assert ('<path class="actual"' in page) == (head == "every")
    Page(page)


def test_histogram_counts_every_value_once():
    own = {"y": np.array([[1.0, 2.0]])}
    single = {"y": np.array([[1.0, 2.0]], np.float32)}
    reference = Reference(own, single, {"y": 0.01})
    feeds = (Feed("a", "stress", {}), Feed("b", "stress", {}), Feed("c", "stress", {}))
    golden = Golden(feeds, {"a": reference, "b": reference, "c": Reference(own, single)}, ())
    found = error_histogram(
        golden,
        {
            "a": {"y": np.array([[1.0, 2.5]])},
            "b": {"y": np.array([[1.0, np.nan]])},
            "c": {"y": np.array([[1.0, 9.0]])},
        },
    )
    assert found is not None
    assert (found.values, found.largest, found.exact, found.broken) == (3, "50", 2, 1)
    filled_bars = [(bar.low, bar.high, bar.count) for bar in found.bars if bar.count]
    assert filled_bars == [("0", "0.01", 2), ("31.6", "100", 1)]
    assert error_histogram(golden, {}) is None


def test_bundle_of_an_earlier_version_has_a_page_too(tmp_path):
    for path in outcomes.REFERENCE.iterdir():
        assert "Signals and answers" in page_of(path)


def test_answers_that_are_not_finite_are_shown_and_counted(
    tiny_exports, tmp_path, monkeypatch
):
    bundle = load_bundle(tiny_exports["float32"])
    real = html_module._answers

    def broken(*arguments):
        answers = real(*arguments)
        answers["single"]["logits"] = np.full_like(answers["single"]["logits"], np.nan)
        answers["impulses"]["logits"] = answers["impulses"]["logits"][:, :2]
        return answers

    monkeypatch.setattr(html_module, "_answers", broken)
    page = html_bytes(bundle, ParityReport((outcomes.FAILED,))).decode()
    assert "4 are not finite" in page
    assert "artifact nan, difference nan" in page


def test_manifest_with_altered_page_is_refused(tiny_exports, tmp_path):
    copy = shutil.copytree(tiny_exports["float32"], tmp_path / "b")
    (copy / "report.html").write_text("<p>Verified.</p>")
    ran = run(verify_command, copy, "--json")
    assert (ran.code, ran.json["error"]["kind"]) == (1, "BundleError")
    fit_hashes(copy)
    assert json.loads((copy / "manifest.json").read_text())["verified"]
