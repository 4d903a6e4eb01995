from __future__ import annotations

import json

import numpy as np
import pytest

from tcn_export.graph import Signature, TensorSpec
from tcn_export.parity import tolerance
from tcn_export.parity.gate import Gate, fall
from tcn_export.parity.golden import Feed, Reference
from tcn_export.parity.rows import ParityReport, Row, waive
from tcn_export.parity.statistics import AccuracyLoss

SIGNATURE = Signature((), (TensorSpec("y", "float32", ("batch", 3)),))
FEED = Feed("real", "real", {})
TRUTH = np.random.default_rng(0).standard_normal((8, 3))
REFERENCE = Reference({"y": TRUTH}, {"y": TRUTH.astype(np.float32)})
GOOD = TRUTH.astype(np.float32)


def row(status, metric="sqnr_db", value=1.0):
    return Row("real", "y", metric, value, ">=", 0.0, status)


@pytest.mark.parametrize(
    "actual", [{}, {"z": GOOD}, {"y": GOOD, "z": GOOD}], ids=["none", "other", "more"]
)
def test_sets_of_outputs_are_compared_first(actual):
    (only,) = Gate("float32", SIGNATURE, True).judge(FEED, actual, REFERENCE)
    assert (only.metric, only.status) == ("form", "fail")
    assert "expected ['y']" in str(only.value)


def test_verdict_needs_something_judged():
    assert ParityReport(()).verdict == "fail"
    assert ParityReport((row("recorded"),)).verdict == "fail"
    assert ParityReport((row("pass"), row("recorded"))).verdict == "pass"
    assert ParityReport((row("pass"), row("fail"))).verdict == "fail"


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        (("pass", "undecided"), "undecided"),
        (("undecided", "waived"), "undecided"),
        (("pass", "undecided", "fail"), "fail"),
        (("pass", "waived"), "pass"),
    ],
)
def test_what_is_lost_outweighs_what_is_open_and_that_what_passed(statuses, verdict):
    report = ParityReport(tuple(map(row, statuses)))
    assert report.verdict == verdict
    assert report.verified == (verdict == "pass")


def test_waived_checks_leave_nothing_verified():
    report = ParityReport((row("pass"), row("waived")), ("real data",))
    assert (report.verdict, report.verified) == ("pass", False)


def test_waiving_spares_values_but_not_the_form():
    rows = waive([row("fail"), row("fail", metric="form"), row("recorded")], "noise")
    assert [r.status for r in rows] == ["waived", "fail", "recorded"]


def test_int8_is_recorded_at_the_export_and_held_to_it_later():
    noisy = (TRUTH + 0.01).astype(np.float32)
    recorded = Gate("int8", SIGNATURE, True).judge(FEED, {"y": noisy}, REFERENCE)
    assert [(r.metric, r.status) for r in recorded] == [
        ("form", "pass"),
        ("sqnr_db", "recorded"),
        ("agreement", "recorded"),
    ]
    baseline = {(r.feed, r.output, r.metric): r.value for r in recorded if r.metric != "form"}
    later = Gate("int8", SIGNATURE, True, baseline)
    assert {r.status for r in later.judge(FEED, {"y": noisy}, REFERENCE)} == {"pass"}
    ratio = baseline["real", "y", "sqnr_db"]
    most = ratio - tolerance.same_sqnr_limit(ratio, TRUTH.size)
    for rise, status in ((most - 0.1, "pass"), (most + 0.1, "fail")):
        noisier = TRUTH + 0.01 * 10 ** (rise / 20)
        found = later.judge(FEED, {"y": noisier.astype(np.float32)}, REFERENCE)
        assert {r.metric: r.status for r in found}["sqnr_db"] == status


@pytest.mark.parametrize(("share", "status"), [(0.97, "fail"), (0.985, "pass")])
def test_int8_answers_may_change_by_two_in_a_hundred_later(share, status):
    later = Gate("int8", SIGNATURE, True, {("real", "y", "agreement"): 1.0})
    row = later.again("real", "y", "agreement", share, fall(tolerance.SAME_AGREEMENT))
    assert row.status == status


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_one_answer_for_all_windows_is_a_wrong_form(precision):
    same = np.broadcast_to(GOOD[:1], GOOD.shape).copy()
    (form, *_) = Gate(precision, SIGNATURE, True).judge(FEED, {"y": same}, REFERENCE)
    assert (form.status, form.value) == (
        "fail",
        "the same for every window, where the oracle's differs",
    )


def test_int8_may_stand_still_beyond_the_range_it_was_calibrated_for():
    flat = np.full((8, 3), 5, np.float32)
    for kind, status in (("stress", "pass"), ("real", "fail"), ("noise", "fail")):
        feed = Feed("large", kind, {})
        (form, *_) = Gate("int8", SIGNATURE, True).judge(feed, {"y": flat}, REFERENCE)
        assert form.status == status


@pytest.mark.parametrize("kind", ["stress", "noise", "real"])
def test_float16_stands_still_nowhere(kind):
    flat = np.full((8, 3), 5, np.float32)
    (form, *_) = Gate("float16", SIGNATURE, True).judge(
        Feed("large", kind, {}), {"y": flat}, REFERENCE
    )
    assert form.value == "constant, where the oracle's varies"


@pytest.mark.parametrize(("kind", "limit"), [("stress", 40), ("noise", 40), ("real", 50)])
def test_float16_is_held_to_its_limit_on_every_feed(kind, limit):
    feed = Feed("feed", kind, {})
    _, *rows = Gate("float16", SIGNATURE, True).judge(feed, {"y": GOOD}, REFERENCE)
    assert [(r.metric, r.limit, r.status) for r in rows] == [("sqnr_db", limit, "pass")]


@pytest.mark.parametrize(("noise_db", "status"), [(50.1, "pass"), (49.9, "fail")])
def test_float16_regression_also_notes_its_noise_in_units(noise_db, status):
    gate = Gate("float16", SIGNATURE, is_classification=False)
    ratio, units = gate.judge_half("windows", "y", noise_db, rms=100.0)
    assert {ratio.status, units.status} == {status}
    assert units.limit == pytest.approx(100 * 10**-2.5)


@pytest.mark.parametrize("lost", ["actual", "oracle", "signature"])
def test_names_have_to_agree_on_all_sides(lost):
    signature = Signature((), ()) if lost == "signature" else SIGNATURE
    actual = {} if lost == "actual" else {"y": GOOD}
    oracle = Reference({}, {}) if lost == "oracle" else REFERENCE
    (form,) = Gate("float32", signature, True).judge(FEED, actual, oracle)
    assert (form.metric, form.status) == ("form", "fail")


def test_value_that_nobody_recorded_fails_later():
    later = Gate("int8", SIGNATURE, True, baseline={})
    rows = later.judge(FEED, {"y": GOOD}, REFERENCE)
    assert [r.note for r in rows if r.status == "fail"] == ["nothing was recorded"] * 2


def test_regressions_have_no_top_answer():
    rows = Gate("int8", SIGNATURE, is_classification=False).judge(FEED, {"y": GOOD}, REFERENCE)
    assert "agreement" not in {r.metric for r in rows}


def loss(**figures):
    given = {"lost": 0.0, "upper": 0.5, "windows": 1000, "rates": (0.0, 0.0)} | figures
    unseen = {"reference": 0.9, "actual": 0.9, "note": "told", "alpha": 0.05}
    return AccuracyLoss(**given, **unseen, spoiled=0, mended=0, changed=0)


@pytest.mark.parametrize(
    ("figures", "status"),
    [
        ({"upper": 0.99}, "pass"),
        ({"upper": 1.0}, "pass"),
        ({"upper": 1.01}, "fail"),
        ({"upper": 1.0, "windows": 10}, "pass"),  # mended answers may lower a bound
        ({"upper": 1.01, "windows": 299}, "fail"),
        ({"upper": 1.01, "windows": 298}, "undecided"),
        ({"upper": 30.0, "lost": 1.0, "windows": 298}, "undecided"),
        ({"upper": 30.0, "lost": 1.01, "windows": 298}, "fail"),
        ({"upper": float("nan")}, "fail"),
        ({"upper": float("nan"), "lost": float("nan"), "windows": 10}, "fail"),
    ],
)
def test_loss_is_judged_by_its_bound_where_the_windows_could_show_one(figures, status):
    judged = Gate("int8", SIGNATURE, True).judge_loss("windows", "y", loss(**figures), 1.0)
    assert judged.status == status
    assert judged.metric == "accuracy_lost_upper95_points"


@pytest.mark.parametrize(
    ("figures", "max_drop", "note"),
    [
        ({}, 1.0, "150 windows cannot show a loss below 1 point; 299 can"),
        ({}, 0.5, "150 windows cannot show a loss below 0.5 points; 598 can"),
        ({}, 0.0, "150 windows cannot show a loss below 0 points; no number can"),
        (
            {"lost": 2 / 3, "rates": (1 / 150, 0.0)},
            1.0,
            (
                "150 windows cannot show a loss below 1 point; 299 can, and at the loss seen "
                "(+0.67 points) about 2,665"
            ),
        ),
    ],
)
def test_what_cannot_be_decided_says_how_many_windows_it_takes(figures, max_drop, note):
    found = loss(upper=3.0, windows=150, **figures)
    judged = Gate("int8", SIGNATURE, True).judge_loss("windows", "y", found, max_drop)
    assert (judged.status, judged.note) == ("undecided", note)


def test_bound_that_fails_says_how_many_windows_such_a_loss_takes():
    found = loss(upper=1.45, lost=0.5, windows=400, rates=(0.005, 0.0))
    judged = Gate("int8", SIGNATURE, True).judge_loss("windows", "y", found, 1.0)
    assert judged.status == "fail"
    assert "the bound takes about 1," in judged.note


def test_int8_may_stand_still_where_the_oracle_hardly_moves():
    quiet = Reference({"y": 5 + 1e-3 * TRUTH}, {"y": (5 + 1e-3 * TRUTH).astype(np.float32)})
    flat = np.full((8, 3), 5, np.float32)
    (form, *_) = Gate("int8", SIGNATURE, True).judge(FEED, {"y": flat}, quiet)
    assert form.status == "pass"
    (form, *_) = Gate("float32", SIGNATURE, True).judge(FEED, {"y": flat}, quiet)
    assert form.value == "constant, where the oracle's varies"


def test_report_is_json_even_with_infinite_values():
    report = ParityReport((row("pass", value=float("inf")), row("pass", value=float("nan"))))
    values = [
        r["value"] for r in json.loads(json.dumps(report.to_json(), allow_nan=False))["rows"]
    ]
    assert values == ["inf", "nan"]
