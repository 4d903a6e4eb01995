"""Each tolerance class has to reject what it exists to reject."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from support import TINY_LENGTH, eager_double, make_source
from tcn_export.data import Windows
from tcn_export.graph import Signature, TensorSpec
from tcn_export.models.tcn import TCNConfig
from tcn_export.parity import tolerance
from tcn_export.parity.gate import Gate
from tcn_export.parity.golden import Feed, Reference
from tcn_export.parity.rows import ParityReport
from tcn_export.parity.windows import Limits, compare, judge_comparison

EVERY = TCNConfig(
    in_channels=3, outputs=4, widths=(8, 12), dilations=(1, 2), head="every", convolutions=2
)
SIGNATURE = Signature((), (TensorSpec("logits", "float32", ("batch", 4, TINY_LENGTH), 2),))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Eager outputs in both precisions, and those of the network with one weight changed."""
    source = make_source(tmp_path_factory.mktemp("tolerance") / "model.pt", EVERY)
    x = np.random.default_rng(0).standard_normal((64, 3, TINY_LENGTH)).astype(np.float32)
    feed = Feed("real", "real", {"signal": x})
    with torch.inference_mode():
        single = source.module(torch.from_numpy(x)).numpy()
    reference = Reference({"logits": eager_double(source, x)}, {"logits": single})
    weight = source.module.blocks[0].body.conv1.weight
    largest = weight.abs().argmax()
    weight.view(-1)[largest] *= 1.01
    with torch.inference_mode():
        slightly = source.module(torch.from_numpy(x)).numpy()
    weight.view(-1)[largest] *= -1
    with torch.inference_mode():
        grossly = source.module(torch.from_numpy(x)).numpy()
    return feed, reference, {"slightly": slightly, "grossly": grossly}


CLASSES = ["float32", "float16", "float16 on stress", "int8", "int8 with labels"]
MAX_DROP = 5.0  # 64 windows without one changed answer bound the loss at 4.6 points


def verdict(kind, outputs, actual):
    """The verdict of a class on real windows."""
    feed, reference, _ = outputs
    gate = Gate(kind.split()[0], SIGNATURE, is_classification=True)
    if kind == "float16 on stress":
        stress = Feed("normal", "stress", feed.inputs)
        return ParityReport(tuple(gate.judge(stress, {"logits": actual}, reference))).verdict
    truth = reference.float64["logits"]
    labels = truth.argmax(1) if kind.endswith("labels") else None
    windows = Windows(feed.inputs["signal"], labels)
    compared = compare(windows, ("logits",), [{"logits": actual}], [reference], True)
    rows = judge_comparison(gate, "logits", windows, compared["logits"], Limits(MAX_DROP))
    if kind in (
        "float32",
        "float16",
    ):  # so that neither way of comparing hides what the other lets through
        golden = ParityReport(tuple(gate.judge(feed, {"logits": actual}, reference)))
        assert golden.verdict == ParityReport(tuple(rows)).verdict
    return ParityReport(tuple(rows)).verdict


FAULTS = {
    "zeros": np.zeros_like,
    "a factor of two": lambda y: 2 * y,
    "a shift by one step": lambda y: np.roll(y, 1, axis=2),
    "swapped channels": lambda y: y[:, [1, 0, 2, 3]],
    "one NaN": lambda y: np.where(np.arange(y.size).reshape(y.shape) == 7, np.nan, y),
    "one infinity": lambda y: np.where(np.arange(y.size).reshape(y.shape) == 7, np.inf, y),
    "another shape": lambda y: y[:, :, :-1],
    "a lost window": lambda y: y[:-1],
    "windows in another order": lambda y: y[::-1],
    "one window for all": lambda y: np.broadcast_to(y[:1], y.shape).copy(),
    "an offset": lambda y: y + np.abs(y).max(),
    "a factor of a half": lambda y: y / 2,
}


@pytest.mark.parametrize("kind", CLASSES)
def test_the_eager_outputs_themselves_pass(kind, outputs):
    assert verdict(kind, outputs, outputs[1].float32["logits"]) == "pass"


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("fault", FAULTS)
def test_class_rejects(kind, fault, outputs):
    actual = FAULTS[fault](outputs[1].float32["logits"])
    assert verdict(kind, outputs, actual.astype(np.float32)) == "fail"


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_another_dtype_is_a_wrong_form(precision, outputs):
    feed, reference, _ = outputs
    actual = reference.float64["logits"]
    (form, *_) = Gate(precision, SIGNATURE, True).judge(feed, {"logits": actual}, reference)
    assert (form.status, form.value) == ("fail", "dtype float64, expected float32")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("float32", "slightly"),
        ("float16", "grossly"),
        ("float16 on stress", "grossly"),
        ("int8", "grossly"),
        ("int8 with labels", "grossly"),
    ],
)
def test_class_rejects_one_changed_weight(kind, change, outputs):
    assert verdict(kind, outputs, outputs[2][change]) == "fail"


@pytest.mark.parametrize("where", ["feed", "windows"])
def test_no_limit_is_infinite_where_eager_float32_overflows(outputs, where):
    feed, reference, _ = outputs
    single = reference.float32["logits"].copy()
    single[3, 2, 1] = np.inf
    overflowed = Reference(reference.float64, {"logits": single})
    gate = Gate("float32", SIGNATURE, is_classification=True)
    wrong = -7 * reference.float32["logits"]
    if where == "feed":
        rows = gate.judge(feed, {"logits": wrong}, overflowed)
        assert gate.judge(feed, {"logits": single}, overflowed)[0].status == "fail"
    else:
        windows = Windows(feed.inputs["signal"])
        compared = compare(windows, ("logits",), [{"logits": wrong}], [overflowed], True)
        rows = judge_comparison(gate, "logits", windows, compared["logits"], Limits(MAX_DROP))
    assert [r.status for r in rows if r.metric == "max_abs_error"] == ["fail"]
    assert "overflows" in rows[1].note


def test_limits_are_those_of_the_design():
    assert (tolerance.EAGER_MULTIPLE, tolerance.EPSILON_MULTIPLE) == (8, 16)
    assert (tolerance.INT8_SQNR_DB, tolerance.INT8_AGREEMENT) == (20, 0.98)
    assert (tolerance.FLOAT16_SQNR_DB, tolerance.FLOAT16_STRESS_SQNR_DB) == (50, 40)
    assert tolerance.MAX_DROP_POINTS == 1


@pytest.mark.parametrize("kind", CLASSES[1:3])
def test_outputs_rounded_to_float16_pass(kind, outputs):
    rounded = outputs[1].float32["logits"].astype(np.float16).astype(np.float32)
    assert verdict(kind, outputs, rounded) == "pass"


@pytest.mark.parametrize(
    ("kind", "noise_db", "passes"),
    [
        ("float16", -50.1, True),
        ("float16", -49.9, False),
        ("float16 on stress", -40.1, True),
        ("float16 on stress", -39.9, False),
    ],
)
def test_float16_limit_is_where_the_design_puts_it(kind, noise_db, passes, outputs):
    truth = outputs[1].float64["logits"]
    noise = np.random.default_rng(0).standard_normal(truth.shape)
    noise *= np.linalg.norm(truth) / np.linalg.norm(noise) * 10 ** (noise_db / 20)
    assert (verdict(kind, outputs, (truth + noise).astype(np.float32)) == "pass") is passes


def test_float16_limit_of_an_answer_near_zero_follows_eager_float32():
    truth = np.array([[1e-3]])
    for eager_error, limit in ((1e-12, 40.0), (1e-9, 120 - 90.31), (1e-6, 20.0), (np.inf, 40)):
        single = (truth + eager_error).astype(np.float64)
        assert tolerance.float16_limit("stress", truth, single) == pytest.approx(
            limit, abs=0.1
        )
        assert tolerance.float16_limit("real", truth, single) == 50
    nothing = np.zeros((1, 1))
    assert tolerance.float16_limit("stress", nothing, nothing + 1e-9) == 40


@pytest.mark.parametrize(("noise", "status"), [(0.0, "pass"), (1e-8, "fail")])
def test_an_answer_of_zeros_has_to_be_zero_at_float16(noise, status):
    signature = Signature((), (TensorSpec("y", "float32", ("batch", 2)),))
    nothing = np.zeros((1, 2))
    oracle = Reference({"y": nothing}, {"y": nothing.astype(np.float32)})
    actual = (nothing + noise).astype(np.float32)
    rows = Gate("float16", signature, True).judge(
        Feed("zeros", "stress", {}), {"y": actual}, oracle
    )
    assert rows[1].status == status


def test_float32_limit_follows_the_eager_error_and_the_size_of_the_output():
    epsilon = float(np.finfo(np.float32).eps)
    assert tolerance.float32_limit(eager_error=1e-3, largest=1.0) == 8e-3
    assert tolerance.float32_limit(eager_error=0.0, largest=100.0) == 1600 * epsilon
    assert tolerance.float32_limit(eager_error=0.0, largest=0.0) == 0.0


@pytest.mark.parametrize(("scale", "passes"), [(0.9, True), (1.1, False)])
def test_float32_limit_is_where_the_design_puts_it(outputs, scale, passes):
    feed, reference, _ = outputs
    truth = reference.float64["logits"]
    eager = np.abs(reference.float32["logits"] - truth).max()
    limit = max(8 * eager, 16 * np.finfo(np.float32).eps * np.abs(truth).max())
    actual = truth.copy()
    actual.flat[np.abs(truth).argmin()] += scale * limit
    # judged in double, so that the rounding of a float32 output does not blur the border
    gate = Gate("float32", SIGNATURE, is_classification=True)
    rows = gate._values(feed, "logits", actual, reference)
    assert (rows[0].status == "pass") is passes


@pytest.mark.parametrize("values", [12, 48, 192])
def test_noise_drawn_anew_rarely_falls_below_the_limit(values):
    """Not never, which would be no limit; and not 1 dB, which a few values fall by chance."""
    once, again = 10 * np.log10(np.random.default_rng(0).chisquare(values, (2, 100_000)))
    fallen = 40 - (again - once)
    assert 0.0005 < float(np.mean(fallen < tolerance.same_sqnr_limit(40, values))) < 0.003
    assert float(np.mean(fallen < 40 - tolerance.SAME_SQNR_DB)) > 0.05


def test_the_noise_of_very_many_values_may_rise_by_one_decibel():
    assert tolerance.same_sqnr_limit(40, 10**6) == 40 - tolerance.SAME_SQNR_DB


@pytest.mark.parametrize("recorded", [12.0, 20.0, 30.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (8, 1), (32, 4)])
@pytest.mark.parametrize("factor", [0, 0.5, 2, -1])
def test_int8_verified_again_keeps_its_scale_however_few_its_values(recorded, shape, factor):
    rng = np.random.default_rng(0)
    truth = rng.choice([-1.0, 1.0], shape)
    noise = rng.choice([-1.0, 1.0], shape) * 10 ** (-recorded / 20)
    signature = Signature((), (TensorSpec("y", "float32", ("batch", shape[1])),))
    feed, reference = Feed("real", "real", {}), Reference({"y": truth}, {"y": truth})
    exported = Gate("int8", signature, is_classification=False)
    rows = exported.judge(feed, {"y": (truth + noise).astype(np.float32)}, reference)
    noted = {(r.feed, r.output, r.metric): r.value for r in rows if r.metric != "form"}
    later = Gate("int8", signature, is_classification=False, baseline=noted)
    again = later.judge(feed, {"y": (factor * (truth + noise)).astype(np.float32)}, reference)
    assert "fail" in {row.status for row in again}
    same = later.judge(feed, {"y": (truth - noise).astype(np.float32)}, reference)
    assert {row.status for row in same} == {"pass"}
