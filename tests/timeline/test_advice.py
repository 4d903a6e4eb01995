"""Advice on the length of the window: what it says ends in a window without a warning."""

from __future__ import annotations

import re

import pytest

from tcn_export.timeline.advice import length_warnings
from tcn_export.timeline.reach import Reach
from tcn_export.timeline.reads import Read
from timeline.test_dependence import depends

LATE = "the window of {} steps begins too late: {} zero padding."


def test_who_reads_the_last_step_needs_no_more_than_what_lies_before_it():
    same = {"padding": "same", "head": "last"}
    assert depends(**same).warnings == (
        "32 of the 40 steps of the window are never read: it may be shorter.",
    )
    assert depends(length=8, **same).warnings == ()
    (warning,) = depends(length=5, **same).warnings
    assert warning == LATE.format(5, "3 steps that an answer depends on are") + (
        " Longer windows tell more: --length 8."
    )
    assert "1 step that an answer depends on is zero" in depends(length=7, **same).warnings[0]


def test_who_reads_every_step_needs_the_receptive_field():
    (warning,) = depends(padding="same", head="every", length=14).warnings
    assert "shorter than the receptive field of 15: 1 step that an answer" in warning


@pytest.mark.parametrize("padding", ["crop", "same"])
@pytest.mark.parametrize("head", ["last", "every", "mean"])
@pytest.mark.parametrize("strides", [[1, 1, 1], [1, 2, 1], [2, 2, 1]])
@pytest.mark.parametrize("length", [3, 10, 64])
def test_advice_is_never_followed_in_circles(padding, head, strides, length):
    for _ in range(3):
        found = depends(
            padding=padding, head=head, strides=strides, length=length, residual=False
        )
        numbers = [re.search(r"--length (\d+)", told) for told in found.warnings]
        if not any(numbers):
            assert all("zero padding" not in told for told in found.warnings)
            return
        length = int(next(number for number in numbers if number)[1])
    pytest.fail(f"{length} is advised again")


def test_a_number_stands_for_windows_that_are_too_long_in_the_plain_case_only():
    strided = {"dilations": [1, 1], "strides": [2, 2], "residual": False}
    (warning,) = depends(head="last", **strided).warnings
    assert warning.endswith("of the window are never read: it may be shorter.")
    holes = {"dilations": [4, 4, 4], "residual": False}
    (warning,) = depends(head="last", **holes).warnings
    assert warning.endswith("of the window are never read: it may be shorter.")


def test_a_step_that_is_counted_from_the_beginning_lacks_steps_in_any_window():
    read = Read("y", "step 5", Reach(1, -14, 2**15 - 1), step=5)
    (warning,) = length_warnings(10, 6, 0, [read], read.reach)[:1]
    assert warning == LATE.format(10, "9 steps that an answer depends on are")
