from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from report.outcomes import FAILED, HOSTILE, PASSED, ROWS, hostile, of, of_error
from tcn_export.report.markdown import MOST_CHARACTERS, markdown


def rendered(outcome):
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown(outcome))


def test_verdict_comes_first_then_what_failed_then_the_figures_then_all():
    page = markdown(of(*ROWS))
    assert page.startswith("### ❌ m-onnx-int8: Parity is lost: 3 of 5 checks failed.\n")
    order = [page.index(w) for w in ("2 x noise", "**latency**", "<details>", "seeded noise")]
    assert order == sorted(order)
    assert (
        "| ❌ |  | real/logits | signal to noise | 12.35 dB | &gt;= 20 dB | 2 x noise |"
        in page
    )


def test_verified_bundle_folds_all_rows_away():
    page = markdown(of(PASSED))
    assert page.startswith("### ✅ m-onnx-int8: Verified: 1 check passed, none failed.")
    assert page.index("0.4 x own") > page.index("<details>")


def test_waived_is_not_verified():
    page = markdown(of(PASSED, waived=("real data",)))
    assert "⚠️ m-onnx-int8: Not verified: real data waived; 1 check passed." in page


def test_share_that_is_not_one_never_reads_as_all():
    assert "&gt; 99.99 %" in markdown(of(*ROWS))


def test_scores_loss_and_coverage_are_told():
    outcome = of(PASSED)
    score = {"accuracy": 0.9, "macro_f1": 0.8, "classes": [], "confusion": []}
    loss = {
        "lost_points": 0.5, "upper_points": 1.25, "confidence": 0.95, "windows": 400,
        "changed": 3, "needed_windows": 900,
    }  # fmt: skip
    parity = {
        **outcome.manifest.parity,
        "scores": {"reference": score, "actual": {**score, "accuracy": 0.895}},
        "loss": loss,
    }
    page = markdown(replace(outcome, manifest=replace(outcome.manifest, parity=parity)))
    assert "accuracy 90.00 % → 89.50 %, macro-F1 0.800 → 0.800" in page
    assert (
        "+0.50 points seen, at most 1.25 with 95 % confidence; 400 windows, 3 changed" in page
    )
    assert "about 900 windows" in page
    assert "5 of 5 convolutions" in page


def test_page_fits_a_comment_and_counts_what_it_leaves_out():
    many = [replace(FAILED, feed=f"feed_{i}", note="x" * 200) for i in range(2000)]
    page = markdown(of(*many))
    assert len(page) <= MOST_CHARACTERS
    (bad, every) = map(int, re.findall(r"and (\d+) more rows", page))
    assert bad > every > 1000
    assert page.count("| ❌ |") == 4000 - bad - every


def test_error_is_told():
    assert "**BundleError**: the file is damaged" in markdown(of_error())
    assert len(markdown(of_error("x" * 10**6))) < MOST_CHARACTERS


def test_hostile_names_are_text():
    html = rendered(hostile())
    assert "<script" not in html
    assert "<code" not in html
    assert html.count("<table>") == 2
    assert {row.count("<td") for row in re.findall(r"<tr>(.*?)</tr>", html, re.S)} == {0, 7}
    assert "@octocat" not in html


@given(st.text("ab|\\`*_[]()<>&@#~$^!:/.\n\r\t -+=\x00", max_size=60))
def test_any_name_stays_in_its_cell_and_keeps_its_text(name):
    html = rendered(of(replace(FAILED, note=f"x{name}x", feed="f")))
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html, re.S)
    told = cells[6].replace("<!-- -->", "")
    for entity, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        told = told.replace(entity, char)
    assert told == " ".join(f"x{name}x".split()).replace("\x00", "\ufffd")


def test_names_with_every_kind_of_markup_render_as_written():
    assert "alert(1)" in rendered(of(replace(FAILED, note=HOSTILE)))
