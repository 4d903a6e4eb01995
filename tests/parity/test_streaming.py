"""Interrupted and reset streams are judged: a runner that forgets something fails."""

from __future__ import annotations

import numpy as np
import pytest

from support import make_checkpoint
from tcn_export import ExportOptions, export
from tcn_export.models.tcn import TCNConfig
from tcn_export.parity.streaming import INTERRUPTED, RESET, judge_interrupted
from tcn_export.targets.hops import HopRunner
from tcn_export.verification import read_golden

NETWORK = TCNConfig(in_channels=2, outputs=3, widths=(4, 4), dilations=(1, 2), head="every")


class ForgetsOne(HopRunner):
    """Restores all states but one."""

    def restore(self, states):
        name = min(states)
        super().restore({**states, name: np.zeros_like(states[name])})


class ResetsNothing(HopRunner):
    """Goes on where it was."""

    def reset(self):
        pass


class OnDevice:
    """Has no states to show."""

    def run(self, feeds):
        raise AssertionError("nobody asks")

    def reset(self):
        pass


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted")
    model = make_checkpoint(folder / "tcn.pt", NETWORK)
    options = ExportOptions(mode="stream", state_form="concat", out=folder)
    return export(model, options).bundle


def judged(bundle, one, other):
    model, signature = bundle.files["model.onnx"], bundle.manifest.signature
    pair = (kind(model, signature) for kind in (one, other))
    rows = judge_interrupted(read_golden(bundle), signature, *pair)
    return {row.metric: row for row in rows}


def test_states_that_were_handed_over_give_the_same_answers(bundle):
    rows = judged(bundle, HopRunner, HopRunner)
    assert {metric: row.status for metric, row in rows.items()} == {
        INTERRUPTED: "pass",
        RESET: "pass",
    }
    assert "handed over behind hop" in rows[INTERRUPTED].note


def test_a_state_that_was_not_handed_over_fails(bundle):
    rows = judged(bundle, HopRunner, ForgetsOne)
    assert rows[INTERRUPTED].status == "fail"
    assert rows[INTERRUPTED].value > 0
    assert rows[RESET].status == "pass"


def test_a_reset_that_forgets_nothing_fails(bundle):
    assert judged(bundle, ResetsNothing, HopRunner)[RESET].status == "fail"


def test_states_on_a_device_are_not_asked_for(bundle):
    signature = bundle.manifest.signature
    assert judge_interrupted(read_golden(bundle), signature, OnDevice(), OnDevice()) == []


def test_both_are_in_the_report_and_asked_again_by_a_verification(bundle):
    from tcn_export import verify

    for rows in (bundle.manifest.parity["rows"], [r.to_json() for r in verify(bundle).rows]):
        assert {INTERRUPTED, RESET} <= {row["metric"] for row in rows}
