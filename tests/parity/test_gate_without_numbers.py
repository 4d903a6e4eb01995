from __future__ import annotations

import numpy as np
import pytest

from tcn_export.graph import Signature, TensorSpec
from tcn_export.parity.gate import Gate
from tcn_export.parity.golden import Feed, Golden, Reference

SIGNATURE = Signature((), (TensorSpec("y", "float32", ("batch", 3)),))
FEED = Feed("real", "real", {})
TRUTH = np.random.default_rng(0).standard_normal((8, 3))
REFERENCE = Reference({"y": TRUTH}, {"y": TRUTH.astype(np.float32)})
GOOD = TRUTH.astype(np.float32)


HOLES = {(0, 0): np.nan, (1, 1): np.inf, (2, 2): -np.inf}


def with_holes(values, holes=HOLES):
    """The values with some that are no numbers."""
    holed = np.array(values)
    for place, hole in holes.items():
        holed[place] = hole
    return holed


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize(
    ("holes", "status"),
    [
        (HOLES, "pass"),
        (HOLES | {(0, 0): np.inf}, "fail"),
        (HOLES | {(1, 1): -np.inf}, "fail"),
        (HOLES | {(2, 2): 1.0}, "fail"),
        (HOLES | {(3, 0): np.nan}, "fail"),
    ],
    ids=["same", "kind", "sign", "number", "more"],
)
def test_values_that_are_no_numbers_are_the_model_s_own_or_a_wrong_form(
    precision, holes, status
):
    double = with_holes(TRUTH)
    oracle = Reference({"y": double}, {"y": double.astype(np.float32)})
    gate = Gate(precision, SIGNATURE, True)
    form, *values = gate.judge(FEED, {"y": with_holes(GOOD, holes)}, oracle)
    assert (form.metric, form.status) == ("form", status)
    assert form.note == "3 values of the model's own are NaN or infinite"
    assert {r.status for r in values} <= {"pass", "recorded"}
    assert bool(values) == (status == "pass")


def test_numbers_beside_those_that_are_none_are_still_judged():
    double = with_holes(TRUTH)
    oracle = Reference({"y": double}, {"y": double.astype(np.float32)})
    wrong = with_holes(GOOD)
    wrong[4, 1] += 0.01
    for precision, found in (("float32", wrong), ("float16", with_holes(2 * GOOD))):
        _, row = Gate(precision, SIGNATURE, True).judge(FEED, {"y": found}, oracle)
        assert row.status == "fail"


def test_infinities_may_meet_in_the_order_of_eager_float32():
    double = with_holes(TRUTH, {(1, 1): np.inf})
    single = with_holes(GOOD, {(1, 1): np.nan})
    (form, _) = Gate("float32", SIGNATURE, True).judge(
        FEED, {"y": single}, Reference({"y": double}, {"y": single})
    )
    assert form.status == "pass"


def test_model_that_overflows_in_float32_alone_fails():
    single = with_holes(GOOD, {(1, 1): np.inf})
    *_, row = Gate("float32", SIGNATURE, True).judge(
        FEED, {"y": GOOD}, Reference({"y": TRUTH}, {"y": single})
    )
    assert row.status == "fail"
    assert "the model overflows" in row.note


def test_model_without_any_number_has_nothing_that_could_pass():
    lost = np.full((8, 3), np.nan)
    nowhere = Reference({"y": lost}, {"y": lost.astype(np.float32)})

    class Lost:
        def reset(self):
            pass

        def run(self, feeds):
            return {"y": lost.astype(np.float32)}

    golden = Golden((FEED,), {"real": nowhere}, ())
    *_, row = Gate("float32", SIGNATURE, True).judge_golden(golden, Lost())
    assert (row.metric, row.status) == ("form", "fail")
    assert "there is nothing to compare" in row.value
