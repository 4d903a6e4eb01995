"""Bundles of streams through the real commands; altered ones are refused, and named."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from support import make_checkpoint, make_data, run
from tcn_export import load_bundle, open_stream, verify
from tcn_export.cli.bench import main as bench_command
from tcn_export.cli.export import main as export_command
from tcn_export.cli.inspect import main as inspect_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.errors import BundleError, ExportError
from tcn_export.models.resnet1d import ResNet1dConfig
from tcn_export.models.tcn import TCNConfig
from tcn_export.source.foreign import load_factory

SIZES = {"in_channels": 3, "outputs": 4}
LAST = TCNConfig(widths=(8, 12), dilations=(1, 2), head="last", causal_padding="crop", **SIZES)
EVERY = TCNConfig(widths=(8, 12), dilations=(1, 2), head="every", **SIZES)
RESNET = ResNet1dConfig(widths=(4, 6), strides=(2, 2), blocks=1, **SIZES)


def stream(model, out, *options):
    return run(
        export_command, model, "--target", "onnx", "--mode", "stream", "--out", out, *options
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    done = stream(make_checkpoint(folder / "every.pt", EVERY), folder, "--hop", 4)
    assert done.code == 0, done.stderr
    return folder / "every-onnx-float32-stream4"


@pytest.fixture
def bundle(written, tmp_path):
    return shutil.copytree(written, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (LAST, ("--hop", 1)),
        (LAST, ("--hop", 1, "--state-form", "ring")),
        (LAST, ("--hop", 6)),
        (RESNET, ("--hop", 16, "--mean", "running")),
        (RESNET, ("--hop", 16, "--mean", "window:5")),
    ],
)
def test_every_kind_of_stream_is_exported_verified_timed_and_inspected(
    config, options, tmp_path
):
    model = make_checkpoint(tmp_path / "net.pt", config, length=64)
    data = make_data(tmp_path / "net.npz", model)
    done = stream(model, tmp_path, *options, "--data", data, "--json")
    assert done.code == 0, done.stderr
    assert done.json["verified"]
    path = tmp_path / f"net-onnx-float32-stream{options[1]}"
    assert done.json["bundle"] == str(path)
    done = run(verify_command, path, "--data", data, "--json")
    assert done.code == 0, done.stderr
    done = run(bench_command, path, "--rounds", 2)
    assert done.code == 0, done.stderr
    done = run(inspect_command, path)
    assert done.code == 0, done.stderr
    assert f"{options[1]}" in done.stdout


def test_labels_for_every_step_are_those_that_the_stream_answers_to(tmp_path, written):
    model = make_checkpoint(tmp_path / "every.pt", EVERY)
    data = make_data(tmp_path / "every.npz", model)
    assert np.load(data)["y_test"].ndim == 2  # a label for each step
    done = stream(model, tmp_path, "--hop", 5, "--data", data, "--json")  # 24 steps: 4 hops
    assert done.code == 0, done.stderr
    path = tmp_path / "every-onnx-float32-stream5"
    done = run(verify_command, path, "--data", data, "--json")
    assert done.code == 0, done.stderr
    done = run(verify_command, written, "--data", data, "--json")
    assert done.code == 0, done.stderr


FEWER = {
    "unpadded": [["conv", {"width": 4, "kernel": 3, "dilation": 4}]],
    "strided": [
        ["conv", {"width": 4, "kernel": 3, "pads": [2, 0], "stride": 2}],
        ["conv", {"width": 4, "kernel": 3}],
    ],
    "ahead": [["conv", {"width": 4, "kernel": 5, "own": 2}]],
}
"""Bodies whose answers are not as many as the steps of a signal, or come late."""


def label_every_answer(path, body, more=0):
    """Windows that are no whole hops, with a label for each of the network's answers."""
    x = np.random.default_rng(0).standard_normal((20, 2, 71)).astype(np.float32)
    module = load_factory("stream_networks:network", (2, 48), arguments=body).module
    with torch.inference_mode():
        y = module(torch.from_numpy(x)).argmax(1).numpy()
    np.savez(path, x_test=x, y_test=np.pad(y, ((0, 0), (0, more))))
    return path


def stream_of_factory(out, body, *options):
    return run(
        export_command, "--factory", "stream_networks:network", "--factory-args",
        json.dumps(body), "--input-shape", "2,48", "--target", "onnx", "--mode", "stream",
        "--hop", 4, "--task", "classification", "--out", out, *options,
    )  # fmt: skip


@pytest.mark.parametrize("kind", sorted(FEWER))
def test_labels_are_as_many_as_the_answers_and_not_as_the_steps(kind, tmp_path):
    body = {"seed": 1, "channels": 2, "outputs": 3, "body": FEWER[kind], "head": "every"}
    data = label_every_answer(tmp_path / "data.npz", body)
    done = stream_of_factory(tmp_path, body, "--data", data, "--json")
    assert done.code == 0, done.stderr
    path = tmp_path / "network-onnx-float32-stream4"
    done = run(verify_command, path, "--data", data, "--json")
    assert done.code == 0, done.stderr
    # The labels are the network's own answers: any that are misplaced would lower the score.
    assert json.loads(done.stdout)["scores"]["actual"]["accuracy"] == 1
    more = label_every_answer(tmp_path / "more.npz", body, 48)
    for refused in (
        run(verify_command, path, "--data", more),
        stream_of_factory(tmp_path / "other", body, "--data", more),
    ):
        assert refused.code == 1
        assert "Give a label for each answer" in " ".join(refused.stderr.split())


def set_in(side, index=0, **changes):
    return lambda entries: entries[side][index].update(changes)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m.update(hop=8), "hop` is 8, and the inputs of a hop have 4 steps"),
        (lambda m: m.update(hop=None), "hop` is None"),
        (lambda m: m.update(hop=-4), "hop` is -4"),
        (lambda m: m.update(mode="window"), "hop` is 4, and the mode is 'window'"),
        (lambda m: m.update(mode="film"), "the mode 'film'"),
        (set_in("states", batch_axis=3), r"states\[0\].batch_axis` is 3"),
        (set_in("states", batch_axis=-1), r"states\[0\].batch_axis` is -1"),
        (
            set_in("states", batch_axis=1),
            r"states\[0\].batch_axis` is 1, and the shape of one",
        ),
        (set_in("states", shape=[1, 8, 2**40]), r"states\[0\].shape` is .*expected 1 to"),
        (set_in("states", shape=[1, 8, -2]), r"states\[0\].shape` is .*expected 1 to"),
        (set_in("states", shape=[1, "much", 2]), r"states\[0\].shape` is .*expected 1 to"),
        (set_in("inputs", time_axis=3), r"inputs\[0\].time_axis` is 3, and its shape has 3"),
        (set_in("inputs", time_axis=None), "have no steps"),
        (set_in("inputs", shape=["batch", 3, "n"]), "have n steps"),
        (set_in("outputs", delay=-1), r"outputs\[0\].delay` is -1"),
        (set_in("outputs", delay=2**70), r"outputs\[0\].delay` is 1"),
        (set_in("outputs", time_axis=-1), r"outputs\[0\].time_axis` is -1"),
        (set_in("outputs", shape=["batch", 4, 2**40]), r"outputs\[0\].shape` is"),
        (lambda m: m.update(stream={"form": 1}), "manifest.stream"),
    ],
)
def test_an_altered_manifest_is_refused_before_anything_runs(bundle, change, told):
    alter(bundle, change)
    with pytest.raises(BundleError, match=told):
        load_bundle(bundle)
    assert run(verify_command, bundle).code == 1


def alter(bundle, change):
    entries = json.loads((bundle / "manifest.json").read_text())
    change(entries)
    (bundle / "manifest.json").write_text(json.dumps(entries))


@pytest.mark.parametrize(
    "change",
    [
        set_in("states", shape=[1, 3, 7]),
        set_in("states", shape=[1, 3]),
        set_in("states", batch_axis=None),
        set_in("states", dtype="float64"),
        set_in("states", output="present_nothing"),
        set_in("states", in_place=True),
        set_in("outputs", delay=3),
        set_in("outputs", delay=30),
        set_in("outputs", shape=["batch", 4, 5]),
        set_in("outputs", dtype="float64"),
        set_in("outputs", time_axis=1),
        set_in("outputs", time_axis=None),
        lambda m: m["states"].pop(),
        lambda m: m["states"].reverse(),
        lambda m: m["states"].append(m["states"][0]),
    ],
)
def test_what_only_the_model_can_tell_is_an_error_or_a_lost_parity(bundle, change):
    alter(bundle, change)
    try:
        changed = load_bundle(bundle)
        is_same = verify(changed).verdict == "pass"
        session = open_stream(changed, streams=2)
        session.step(np.zeros((2, 3, 4), np.float32))
    except ExportError:
        is_same = False
    # An order of states says nothing; two buffers may be one where nothing reads afterwards.
    if is_same:
        rest = load_bundle(bundle).manifest.signature.states
        assert len(rest) == len({pair.input for pair in rest})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--hop", 4), "--hop 4 is about streams. Give --mode stream"),
        (("--mean", "running"), "--mean running is about streams"),
        (("--state-form", "ring"), "--state-form ring is about streams"),
        (("--mode", "stream", "--mean", "nonsense"), "the mean is 'nonsense'; expected 'runn"),
        (("--mode", "stream", "--mean", "window:0"), "the mean is over 0 steps"),
        (("--mode", "stream", "--mean", "window:-3"), "the mean is 'window:-3'"),
        (("--mode", "stream", "--mean", "window:"), "the mean is 'window:'"),
        (("--mode", "stream", "--hop", 2, "--state-form", "ring"), "the hop is 2. Use"),
        (("--mode", "stream", "--layout", "2d"), "--layout and --keep-all-steps are about wi"),
        (("--mode", "stream", "--keep-all-steps"), "are about windows"),
        (("--mode", "stream", "--hop", 0), "--hop"),
        (("--mode", "stream", "--hop", 2_000_000), "the hop is 2000000"),
        (("--mode", "film"), "film"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(
    tiny_model, options, told, tmp_path
):
    done = run(export_command, tiny_model, "--target", "onnx", *options, "--out", tmp_path)
    assert done.code == 2
    assert told in " ".join(done.stderr.split())
    assert not any(tmp_path.iterdir())


def test_a_mean_that_the_network_does_not_take_is_refused(tmp_path):
    model = make_checkpoint(tmp_path / "last.pt", LAST)
    done = run(
        export_command, model, "--target", "onnx", "--mode", "stream", "--mean", "running",
        "--out", tmp_path,
    )  # fmt: skip
    assert done.code == 2
    assert "the network takes none" in " ".join(done.stderr.split())


def test_a_fault_is_located_in_windows_and_not_in_a_stream(tmp_path):
    model = make_checkpoint(tmp_path / "last.pt", LAST)
    run(export_command, model, "--target", "onnx", "--mode", "stream", "--out", tmp_path)
    done = run(verify_command, tmp_path / "last-onnx-float32-stream1", "--locate")
    assert done.code == 2
    assert "without --mode stream" in " ".join(done.stderr.split())
