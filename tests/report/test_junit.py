from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.outcomes import FAILED, PASSED, ROWS, hostile, of, of_error
from tcn_export.report.junit import junit_bytes

# The schema of Jenkins (jenkins-junit.xsd): attributes and children by element.
_COUNTS = {"name", "tests", "failures", "errors", "time"}
_OF_RESULTS = {"type", "message"}
SCHEMA = {
    "testsuites": (_COUNTS | {"disabled"}, ["testsuite"]),
    "testsuite": (_COUNTS | {"skipped"}, ["properties", "testcase"]),
    "properties": (set(), ["property"]),
    "property": ({"name", "value"}, []),
    "testcase": ({"name", "classname", "time"}, ["skipped", "error", "failure"]),
    "skipped": (_OF_RESULTS, []),
    "error": (_OF_RESULTS, []),
    "failure": (_OF_RESULTS, []),
}


def check(element):
    attributes, children = SCHEMA[element.tag]
    assert set(element.attrib) <= attributes
    order = [children.index(child.tag) for child in element]  # nothing that is not listed
    assert order == sorted(order)
    for child in element:
        check(child)


def read(outcome):
    root = ET.fromstring(junit_bytes(outcome))
    check(root)
    for suite in root:
        for tag, name in (
            ("failure", "failures"),
            ("error", "errors"),
            ("skipped", "skipped"),
        ):
            assert suite.get(name) == str(len(suite.findall(f"testcase/{tag}")))
        assert suite.get("tests") == str(len(suite.findall("testcase")))
    for name in ("tests", "failures", "errors"):
        assert int(root.get(name)) == sum(int(suite.get(name)) for suite in root)
    return root


def cases(outcome):
    found = {}
    for case in read(outcome).iter("testcase"):
        assert case.get("name") not in found
        found[case.get("name")] = [(c.tag, c.get("type"), c.text) for c in case]
    return found


def test_every_row_is_a_case_of_its_own_kind():
    found = cases(of(*ROWS))
    told = "signal to noise 12.35 dB, expected >= 20 dB (2 x noise)"
    assert found["sqnr_db on real/logits"] == [("failure", "fail", told)]
    assert found["max_abs_error on normal/logits"] == []
    assert found["agreement on real/logits"][0][:2] == ("skipped", "waived")
    assert found["accuracy on windows/logits"][0][:2] == ("skipped", "recorded")
    undecided = found["accuracy_lost_upper95_points on windows/y"]
    assert undecided[0][:2] == ("failure", "undecided")
    assert found["class order on the bundle"][0][:2] == ("failure", "fail")


def test_status_that_is_not_known_fails():
    assert cases(of(*ROWS))["sqnr_db on real/logits #2"][0][:2] == ("failure", "abstained")


def test_error_is_a_case_too():
    ((name, results),) = cases(of_error()).items()
    assert (name, results) == ("tcn-verify", [("error", "BundleError", "the file is damaged")])


def test_verdict_without_a_failed_row_is_still_seen():
    told = cases(of())["verdict"]
    assert told == [("failure", "fail", "Parity is not shown: nothing was judged.")]
    missing = cases(of(PASSED, missing="not built here"))["a run on the device"]
    assert missing[0][:2] == ("error", "missing")
    waived = cases(of(PASSED, waived=("real data",)))["waived: real data"]
    assert waived == [("skipped", "waived", "real data was waived")]


def test_stages_are_suites_and_only_one_has_the_time():
    from dataclasses import replace

    root = read(of(FAILED, replace(FAILED, stage="before int8")))
    names = [(suite.get("name"), suite.get("time")) for suite in root]
    assert names == [("m-onnx-int8", "1.500"), ("m-onnx-int8 before int8", "0.000")]
    assert root.get("time") == "1.500"


def test_hostile_names_are_text():
    raw = junit_bytes(hostile())
    read(hostile())
    assert b"<script>" not in raw
    assert b"\x00" not in raw
    assert b"\x1b" not in raw


@given(st.text(st.characters(), max_size=40))
def test_any_text_can_be_told(text):
    (case,) = read(of_error(text)).iter("testcase")
    found = case.find("error").get("message")
    assert len(found) == len(text)
    legal = [(a, b) for a, b in zip(text, found, strict=True) if b != "\ufffd"]
    assert all(a == b for a, b in legal)


@pytest.mark.parametrize("outcome", [of(*ROWS), of_error(), hostile()])
def test_bytes_are_the_same_every_time(outcome):
    assert junit_bytes(outcome) == junit_bytes(outcome)
