"""What tcn-bench tells of real bundles on this machine."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from bundles import write_by_hand
from support import make_checkpoint, run, run_without_torch
from targets.stateful import stateful_graph
from tcn_export import machine
from tcn_export.bundle import load_bundle, write_bundle
from tcn_export.cli.bench import main as bench_command
from tcn_export.cli.export import main as export_command
from tcn_export.models.tcn import TCNConfig
from tcn_export.parity.golden import golden_from_bytes, golden_to_bytes
from tcn_export.racing import race_runners, ratio
from tcn_export.targets.cuda_driver import ask_driver
from tcn_export.timed_feeds import timed_feeds

BRIEF = ["--rounds", 4]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, tiny_model):
    """A tiny network, and one of twenty times the work with a window of any length."""
    out = tmp_path_factory.mktemp("bench")
    config = TCNConfig(in_channels=3, outputs=4, widths=(48, 48, 48), dilations=(1, 2, 4))
    large = make_checkpoint(out / "large.pt", config, length=96)
    for model, more in ((tiny_model, []), (large, ["--length", "dynamic"])):
        arguments = [model, "--target", "onnx", "--out", out, "-q", *more]
        assert run(export_command, *arguments).code == 0
    return {name: out / f"{name}-onnx-float32" for name in ("tiny", "large")}


def edited(bundle, to, **changes):
    copy = shutil.copytree(bundle, to)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, **changes}))
    return copy


def test_every_combination_is_measured_and_compared_with_the_first_bundle(bundles):
    tiny, large = bundles["tiny"], bundles["large"]
    sizes = ["--threads", 1, "--threads", 2, "--batch", 1, "--batch", 8]
    ran = run(bench_command, large, "--against", tiny, *sizes, *BRIEF, "--json")
    assert ran.code == 0
    entries = ran.json["measured"]
    assert [(e["threads"], e["batch"], e["bundle"]) for e in entries] == [
        (threads, batch, str(bundle))
        for threads in (1, 2)
        for batch in (1, 8)
        for bundle in (large, tiny)
    ]
    for first, second in zip(entries[::2], entries[1::2], strict=True):
        assert first["relative_to_first"] is None
        rounds = np.array(second["round_medians_us"]) / first["round_medians_us"]
        told = second["relative_to_first"]
        assert told["rounds"] == len(rounds) == 4
        assert told["median"] == pytest.approx(np.median(rounds), rel=0.02)
        assert told["p10"] <= told["median"] <= told["p90"] < 1, "it does less work"
    for entry in entries:
        call, window = entry["per_call"], entry["per_window"]
        assert 0 < call["median_us"] <= call["p90_us"] <= call["p99_us"]
        assert (call["threads"], call["calls"] % 4) == (entry["threads"], 0)
        for quantile, us in window.items():
            assert us * entry["batch"] == pytest.approx(call[quantile], abs=0.1)
    assert ran.json["host"] == machine.host()
    assert ran.json["tools"] == machine.tools()
    assert ran.json["load"]["cores"] == machine.cores() > 0


def test_table_names_bundles_figures_and_machine(bundles):
    ran = run(bench_command, bundles["large"], "--against", bundles["tiny"], *BRIEF)
    assert ran.code == 0
    kinds, times, where = ran.stdout.split("\n\n")
    for line, name in zip(kinds.splitlines()[1:], ("large", "tiny"), strict=True):
        assert line.split()[:3] == [str(bundles[name]), "onnx", "float32"]
        assert line.split()[-1] == "yes"
    head, first, second = times.splitlines()
    for column in ("median us", "p90", "p99", "per window", "times as long", "peak memory"):
        assert column in head
    assert first.split()[:3] == ["large-onnx-float32", "1", "1"]
    assert " to " not in first
    assert re.search(r"0\.\d{3} \(0\.\d{3} to 0\.\d{3}\) .* MB its own", second)
    assert machine.host()["cpu"] in where
    assert "onnxruntime" in where


def test_sizes_are_those_on_the_disk(bundles):
    ran = run(bench_command, bundles["tiny"], *BRIEF, "--json")
    (told,) = ran.json["bundles"]
    folder = bundles["tiny"]
    assert told["model_bytes"] == (folder / "model.onnx").stat().st_size
    assert told["bundle_bytes"] == sum(path.stat().st_size for path in folder.iterdir())


def test_bundle_against_itself_shows_what_a_difference_of_nothing_looks_like(bundles):
    ran = run(bench_command, bundles["large"], "--against", bundles["large"], "--json")
    told = ran.json["measured"][1]["relative_to_first"]
    assert told["p10"] <= told["median"] <= told["p90"]
    assert told["median"] == pytest.approx(1, abs=0.2)


def test_planted_slow_contestant_is_told_by_the_real_clock(bundles):
    """The same model twice per call, between two that run it once."""

    class Twice:
        def __init__(self, runner):
            self.runner, self.reset = runner, runner.reset

        def run(self, feeds):
            self.runner.run(feeds)
            return self.runner.run(feeds)

    bundle = load_bundle(bundles["large"])
    runners = {name: bundle.runner(threads=1) for name in ("once", "twice", "again")}
    runners["twice"] = Twice(runners["twice"])
    timings = race_runners(runners, dict.fromkeys(runners, timed_feeds(bundle)))
    assert 1.6 < ratio(timings["twice"], timings["once"]).median < 2.4
    assert 1.6 < ratio(timings["twice"], timings["again"]).median < 2.4
    assert 0.8 < ratio(timings["once"], timings["again"]).median < 1.25


def test_bundle_that_lost_parity_is_timed_and_told_of(bundles, tmp_path):
    manifest = json.loads((bundles["tiny"] / "manifest.json").read_text())
    parity = {**manifest["parity"], "verdict": "fail"}
    lost = edited(bundles["tiny"], tmp_path / "lost", parity=parity, verified=False)
    ran = run(bench_command, lost, "--against", bundles["tiny"], *BRIEF)
    assert ran.code == 0
    lines = ran.stdout.splitlines()
    assert "no: parity lost" in lines[1]
    assert "no:" not in lines[2]
    told = run(bench_command, lost, *BRIEF, "--json").json["bundles"][0]
    assert (told["parity"], told["verified"]) == ("fail", False)


def test_window_is_repeated_and_cut_to_what_was_asked(bundles):
    bundle = load_bundle(bundles["large"])
    (window,) = golden_from_bytes(bundle.files["golden.npz"]).single.inputs.values()
    assert window.shape == (1, 3, 96)
    (longer,) = timed_feeds(bundle, batch=3, length=250).values()
    assert (longer == np.tile(window, (3, 1, 3))[:, :, :250]).all()
    (shorter,) = timed_feeds(bundle, length=10).values()
    assert (shorter == window[:, :, :10]).all()
    assert shorter.dtype == np.float32
    assert shorter.flags.c_contiguous
    (same,) = timed_feeds(load_bundle(bundles["tiny"]), length=24).values()
    assert same.shape == (1, 3, 24)


def test_length_is_that_of_the_calls(bundles):
    times = {
        length: run(bench_command, bundles["large"], "--length", length, *BRIEF, "--json")
        for length in (48, 960)
    }
    short, long = (t.json["measured"][0]["per_call"]["median_us"] for t in times.values())
    assert long > 4 * short


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tiny", ["--length", 40], r"shape \(batch, 3, 24\), so its windows cannot have 40"),
        ("large", ["--batch", 4096, "--length", 1_000_000], "more than one call should take"),
        ("tiny", ["--batch", 0], "0 is not in the range"),
        ("tiny", ["--threads", -1], "-1 is not in the range"),
    ],
)
def test_sizes_that_no_call_can_have_are_wrong_usage(bundles, name, options, message):
    ran = run(bench_command, bundles[name], *options)
    assert ran.code == 2
    assert re.search(message, ran.stderr)


def test_fixed_batch_is_wrong_usage_for_others(bundles, tmp_path):
    spec = json.loads((bundles["tiny"] / "manifest.json").read_text())["inputs"][0]
    fixed = edited(bundles["tiny"], tmp_path / "b", inputs=[{**spec, "shape": [1, 3, 24]}])
    ran = run(bench_command, fixed, "--batch", 2)
    assert (ran.code, "takes one window per call" in ran.stderr) == (2, True)
    assert run(bench_command, fixed, *BRIEF).code == 0


def test_golden_data_without_a_window_are_an_error(bundles, tmp_path):
    bundle = load_bundle(bundles["tiny"])
    golden = golden_from_bytes(bundle.files["golden.npz"])
    feeds = tuple(feed for feed in golden.feeds if feed.name != "single")
    files = {**bundle.files, "golden.npz": golden_to_bytes(replace(golden, feeds=feeds))}
    write_bundle(tmp_path / "b", bundle.manifest, files, overwrite=False)
    ran = run(bench_command, tmp_path / "b")
    assert (ran.code, "holds no feed `single`" in ran.stderr) == (1, True)


def test_streams_are_timed_with_their_states(tmp_path):
    bundle = write_by_hand(tmp_path / "stream", stateful_graph(hop=4))
    ran = run(bench_command, bundle.path, "--batch", 1, "--batch", 3, *BRIEF, "--json")
    assert ran.code == 0
    assert [entry["batch"] for entry in ran.json["measured"]] == [1, 3]


def test_streams_begin_anew_in_every_round_and_go_on_within():
    class Stream:
        def __init__(self):
            self.steps, self.longest, self.resets = 0, 0, 0

        def reset(self):
            self.steps, self.resets = 0, self.resets + 1

        def run(self, feeds):
            self.steps += 1
            self.longest = max(self.longest, self.steps)
            return feeds

    streams = {"a": Stream(), "b": Stream()}
    timings = race_runners(streams, {"a": {}, "b": {}}, rounds=7)
    for name, stream in streams.items():
        calls = timings[name].seconds.shape[1]
        assert stream.resets == 7 + 1  # once more to find out how many calls fit
        assert stream.longest == calls + -(-calls // 4)


def test_load_of_others_is_remarked(bundles, monkeypatch):
    for load, is_told in ((0.1, False), (1.7, True), (None, False)):
        monkeypatch.setattr(machine, "load", lambda load=load: load)
        ran = run(bench_command, bundles["tiny"], *BRIEF, "--json")
        assert ran.json["load"]["before"] == load
        assert any("the machine was busy: 1.7" in r for r in ran.json["remarks"]) == is_told


def test_target_without_its_device_ends_with_4(bundles, tiny_model, tmp_path):
    if ask_driver().devices:
        pytest.skip("this machine has a device")
    options = ["--target", "trt", "--bundle-only", "--out", tmp_path, "-q"]
    assert run(export_command, tiny_model, *options).code == 0
    kit = tmp_path / "tiny-trt-float32"
    for bundle in (edited(bundles["tiny"], tmp_path / "b", target="cuda"), kit):
        ran = run(bench_command, bundles["tiny"], "--against", bundle)
        assert ran.code == 4, ran.stderr


def test_what_is_no_bundle_ends_with_1(bundles, tmp_path):
    ran = run(bench_command, bundles["tiny"], "--against", tmp_path)
    assert (ran.code, "is not a bundle" in ran.stderr) == (1, True)


def test_measuring_needs_neither_torch_nor_onnx(bundles):
    ran = run_without_torch("bench", bundles["tiny"], "--against", bundles["large"], *BRIEF)
    assert ran.code == 0, ran.stderr
    assert "MB its own" in ran.stdout
