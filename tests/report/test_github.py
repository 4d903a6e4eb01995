from __future__ import annotations

from dataclasses import replace

from report.outcomes import FAILED, PASSED, UNDECIDED, hostile, of, of_error
from tcn_export.report.github import annotation_lines


def test_failed_row_is_an_error_with_its_place_in_the_title():
    (line,) = annotation_lines(of(FAILED, PASSED))
    assert line == (
        "::error title=tcn-verify m-onnx-int8%3A real/logits::"
        "signal to noise 12.35 dB, expected >= 20 dB (2 x noise)"
    )


def test_verified_bundle_says_nothing():
    assert annotation_lines(of(PASSED)) == []


def test_undecided_and_waived_are_warnings():
    # Until the verdict knows it, a row that is not decided does not fail.
    lines = annotation_lines(of(PASSED, UNDECIDED))
    assert [line.split(" ")[0] for line in lines] == ["::warning"]
    (line,) = annotation_lines(of(PASSED, waived=("real data",)))
    assert line.startswith(
        "::warning title=tcn-verify m-onnx-int8::Not verified: real data waived"
    )


def test_error_is_one_line_with_everything_escaped():
    (line,) = annotation_lines(of_error("100 % of it\r\nis: gone, all"))
    assert line == (
        "::error title=tcn-verify m-onnx-int8::BundleError: 100 %25 of it%0D%0Ais: gone, all"
    )


def test_title_is_escaped_further():
    outcome = replace(of_error(), subject="a,b:c%\nd")
    assert "title=tcn-verify a%2Cb%3Ac%25%0Ad::" in annotation_lines(outcome)[0]


def test_github_is_not_given_more_than_it_shows():
    many = [replace(FAILED, feed=f"feed_{i}") for i in range(25)]
    lines = annotation_lines(of(*many))
    assert len(lines) == 10
    assert lines[-1].endswith("... and 16 more: see the summary of this job")
    assert len(annotation_lines(of(*many[:10]))) == 10
    assert "more" not in annotation_lines(of(*many[:10]))[-1]


def test_nothing_was_judged_is_an_error():
    (line,) = annotation_lines(of())
    assert line.endswith("::Parity is not shown: nothing was judged.")


def test_hostile_names_make_no_line_of_their_own():
    for line in annotation_lines(hostile()):
        assert line.startswith("::")
        assert len(line.splitlines()) == 1 or "\x1c" in line
        assert "\n" not in line
        assert "\r" not in line
