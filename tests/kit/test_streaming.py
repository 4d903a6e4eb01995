"""A stream on its device, with runners that carry, forget, drift or ignore a reset.

The runner is the one of engines, ONNX Runtime stands for the engine and host memory for the
device; nothing stands in for TensorRT.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from kit.stream_kit import RATE_HZ, on_the_host, write_stream_kit
from targets.streams import CASES
from tcn_export.errors import BundleError
from tcn_export.kit import proof
from tcn_export.kit.streaming import stream, stream_line
from tcn_export.targets.cuda_driver import ask_driver

no_device = pytest.mark.skipif(bool(ask_driver().devices), reason="there is a CUDA device")
KINDS = ("every, hop 1", "looking ahead, hop 4", "running mean", "last, hop 4", "max pool")
HOPS = 400


@pytest.fixture(scope="module")
def stream_kits(tmp_path_factory):
    out = tmp_path_factory.mktemp("streams")
    return {n: write_stream_kit(out / n, CASES[n], 2 if "ahead" in n else 4) for n in KINDS}


class Faulty:
    """Changes what a right runner answers, knowing how many hops came since the reset."""

    def __init__(self, runner, change=lambda y, hop: y, before=lambda runner, hop: None):
        self.runner, self.change, self.before, self.hop = runner, change, before, 0

    def reset(self):
        self.runner.reset()
        self.hop = 0

    def run(self, feeds):
        self.before(self.runner, self.hop)
        answers = self.runner.run(feeds)
        self.hop += 1
        return {name: self.change(y, self.hop) for name, y in answers.items()}


class Forgetful(Faulty):
    """Ignores resets after the first."""

    resets = 0

    def reset(self):
        if not self.resets:
            self.runner.reset()
        self.resets += 1


@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_whole_golden_signals_are_proved_hop_by_hop(stream_kits, name, cuda_graph):
    """More signals than the engine takes at once, too: three, where it was built for two."""
    kit = stream_kits[name]
    report = proof.judge(kit, on_the_host(kit, cuda_graph))
    assert report.verdict == "pass", report.failures
    assert {row.feed for row in report.rows if row.metric == "max_abs_error"} == {
        "single", "real",
    }  # fmt: skip


def test_a_stream_that_forgets_between_hops_is_not_verified(stream_kits):
    kit = stream_kits["every, hop 1"]
    forgetting = Faulty(on_the_host(kit), before=lambda runner, hop: runner.reset())
    assert proof.judge(kit, forgetting).verdict == "fail"


@pytest.mark.parametrize("name", KINDS)
def test_a_right_stream_keeps_up_and_does_not_drift(stream_kits, name):
    kit = stream_kits[name]
    told = stream(kit, on_the_host(kit), HOPS)
    assert (told["hops"], told["hop"]) == (HOPS, CASES[name].hop)
    assert 0 < told["median_us"] <= told["p99_us"] <= told["longest_us"]
    assert told["us_per_step"] == pytest.approx(told["median_us"] / told["hop"], abs=0.06)
    assert told["times_real_time"] == pytest.approx(
        told["hop"] / RATE_HZ * 1e6 / told["median_us"], rel=1e-2
    )
    settled = told["changes_per_repetition"]
    assert settled["judged"]
    assert settled["late"] <= settled["early"]
    if "mean" not in name:
        assert settled["late"] <= settled["limit"]
    assert "times as fast as the signal comes at 50 Hz" in stream_line(told)


def test_without_a_rate_nothing_is_said_of_one(stream_kits):
    kit = stream_kits["every, hop 1"]
    told = stream(kit, on_the_host(kit), 20)
    line = stream_line({**told, "times_real_time": None, "late_hops": None})
    assert "Hz" not in line
    assert line.endswith("us per step")


@pytest.mark.parametrize("name", ["every, hop 1", "looking ahead, hop 4", "running mean"])
def test_a_stream_that_drifts_is_an_error(stream_kits, name):
    kit = stream_kits[name]
    drifting = Faulty(on_the_host(kit), lambda y, hop: y + np.float32(1e-3 * hop))
    with pytest.raises(BundleError, match="the stream drifts: after 400 hops"):
        stream(kit, drifting, HOPS)


def test_a_stream_that_ends_in_nan_is_an_error(stream_kits):
    kit = stream_kits["every, hop 1"]
    ending = Faulty(on_the_host(kit), lambda y, hop: y if hop < 350 else y * np.nan)
    with pytest.raises(BundleError, match="the stream drifts"):
        stream(kit, ending, HOPS)


def test_a_reset_has_to_begin_anew(stream_kits):
    kit = stream_kits["every, hop 1"]
    with pytest.raises(BundleError, match="otherwise after a reset"):
        stream(kit, Forgetful(on_the_host(kit)), HOPS)


@pytest.mark.parametrize("name", KINDS)
def test_a_stream_has_to_carry_its_states(stream_kits, name):
    kit = stream_kits[name]
    forgetting = Faulty(on_the_host(kit), before=lambda runner, hop: runner.reset())
    with pytest.raises(BundleError, match="states are not carried"):
        stream(kit, forgetting, HOPS)


def test_a_few_hops_are_run_and_not_judged(stream_kits):
    kit = stream_kits["every, hop 1"]
    assert not stream(kit, on_the_host(kit), 20)["changes_per_repetition"]["judged"]


def test_latency_is_that_of_a_hop(stream_kits):
    kit = stream_kits["looking ahead, hop 4"]
    assert proof.measure(kit, on_the_host(kit))["median_us"] > 0


@no_device
def test_the_script_builds_a_stream_and_says_that_it_was_not_run(stream_kits, rtx):
    kit = stream_kits["running mean"]
    command = [sys.executable, f"{kit.folder}/build_engine.py", "--stream", "500"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "accepted and built by NVIDIA's code (tensorrt_rtx 1.7" in done.stderr


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_a_number_of_hops_is_at_least_one(stream_kits, count):
    kit = stream_kits["every, hop 1"]
    command = [sys.executable, f"{kit.folder}/build_engine.py", f"--stream={count}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--stream" in done.stderr
