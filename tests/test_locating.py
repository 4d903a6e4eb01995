"""The layer that is to blame is found, whatever the fault, the layer and the precision."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest

from layer_faults import FAULTS, planted
from planting import FAULTS as REWRITES
from support import TINY_TCN, make_checkpoint, make_data, run
from tcn_export.bundle import load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.cli.verify import main as verify_command
from tcn_export.locating import locate_layer
from tcn_export.models.resnet1d import ResNet1dConfig
from tcn_export.parity.bisect import first_outside, judge_layers
from tcn_export.parity.layers import Trace, layers_from_bytes
from tcn_export.parity.rows import ParityReport
from tcn_export.rewrite import plans
from tcn_export.targets.segments import read_graph, run_units, run_whole
from user_networks import PLAIN

PRECISIONS = ("float32", "float16", "int8")
RESNET = ResNet1dConfig(
    in_channels=2, outputs=3, widths=(6, 8), strides=(1, 2), blocks=1, kernel_size=3
)
GATED = {**PLAIN, "gate": True, "head": "last"}
NETWORKS = ("tcn", "resnet", "gated")
PASSED = ParityReport(())


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Every network at every precision."""
    out = tmp_path_factory.mktemp("located")
    noise = np.random.default_rng(0).standard_normal((80, 2, 24)).astype(np.float32)
    np.savez(out / "gated.npz", x_train=noise[:40], x_test=noise[40:])
    gated = ["--factory", "user_networks:network", "--factory-args", json.dumps(GATED)]
    for name, config in (("tcn", TINY_TCN), ("resnet", RESNET)):
        make_data(out / f"{name}.npz", make_checkpoint(out / f"{name}.pt", config), 40)
    for name in NETWORKS:
        model = [*gated, "--input-shape", "2,24"] if name == "gated" else [out / f"{name}.pt"]
        for precision in PRECISIONS:
            options = ["--precision", precision, "--data", out / f"{name}.npz", "-q"]
            options += ["--target", "onnx", "--max-drop", 50, "--name", name, "--out", out]
            options += ["--layout", "1d", "--int8-only"]  # what is fastest here is chance
            ran = run(export_command, *model, *options)
            assert ran.code in (0, 3), ran.stderr
    return {
        (name, precision): load_bundle(out / f"{name}-onnx-{precision}")
        for name in NETWORKS
        for precision in PRECISIONS
    }


def changed(bundle, model):
    return replace(bundle, files={**bundle.files, bundle.manifest.model: model})


def computing(model):
    """Names of the nodes that compute, rather than convert."""
    conversions = ("QuantizeLinear", "DequantizeLinear", "Cast")
    nodes = onnx.load_from_string(model).graph.node
    return [node.name for node in nodes if node.op_type not in conversions]


def search(bundle):
    """Plant every fault at every layer: how many were located, how many show nowhere."""
    model, located, unseen = bundle.files[bundle.manifest.model], Counter(), Counter()
    for node in computing(model):
        for fault in FAULTS:
            broken = planted(model, node, fault)
            if broken is None:
                continue
            found = locate_layer(bundle, changed(bundle, broken), PASSED)
            if found.first is None:
                assert same_answers(bundle, model, broken, found), (node, fault)
                unseen[fault] += 1
                continue
            assert found.first.node == node, (node, fault, found.first)
            located[fault] += 1
    return located, unseen


def same_answers(bundle, model, broken, found):
    """Whether a fault shows nowhere on the windows that were run."""
    with np.load(bundle.path / "golden.npz") as golden:
        (name,) = [spec.name for spec in bundle.manifest.signature.inputs]
        feeds = {name: golden[f"{found.feed}/input/{name}"][: found.windows]}
    one, other = (run_whole(m, feeds, is_optimized=False) for m in (model, broken))
    return all(np.allclose(one[key], other[key], rtol=1e-6) for key in one)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_fault_at_every_layer_is_located(network, precision, bundles):
    located, unseen = search(bundles[network, precision])
    assert located.total() > 5 * unseen.total(), (located, unseen)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_command_names_the_layer_and_ends_as_verify_does(precision, bundles, tmp_path):
    bundle = bundles["tcn", precision]
    node = "blocks.1.body.conv1/Conv"
    path = tmp_path / "changed.onnx"
    path.write_bytes(planted(bundle.files["model.onnx"], node, "no bias"))
    ran = run(verify_command, bundle.path, "--model", path, "--locate", "--json")
    assert ran.code == 3, ran.stderr
    blamed = ran.json["located"]["first_outside"]
    assert (blamed["layer"], blamed["node"]) == ("blocks.1.body.conv1", node)
    assert blamed["within"] is False
    assert blamed["moved_db"] < blamed["moved_limit_db"]
    told = run(verify_command, bundle.path, "--model", path, "--locate").stdout
    assert f"first outside: blocks.1.body.conv1 (Conv `{node}`)" in told
    assert "PARITY LOST" in told
    alone = run(verify_command, bundle.path, "--model", path, "--json")
    assert (alone.code, "located" in alone.json, alone.json["layers"]) == (3, False, None)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bundle_that_passes_has_nothing_to_locate(precision, bundles):
    bundle = bundles["tcn", precision]
    ran = run(verify_command, bundle.path, "--locate")
    assert (ran.code, "nothing to locate" in ran.stdout) == (0, True), ran.stdout
    assert "nearest to its limit: " in ran.stdout
    told = run(verify_command, bundle.path, "--locate", "--json").json
    assert all(row["within"] for row in told["layers"])
    assert told["located"]["first_outside"] is None


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_layer_is_in_the_manifest_and_in_the_report(network, precision, bundles):
    bundle = bundles[network, precision]
    layers = bundle.manifest.parity["layers"]
    assert json.loads(bundle.files["report.json"])["layers"] == layers
    weighted = {row["node"] for row in layers if row["operator"] in ("Conv", "Gemm")}
    model = onnx.load_from_string(bundle.files["model.onnx"])
    assert weighted == {n.name for n in model.graph.node if n.op_type in ("Conv", "Gemm")}
    if precision == "float32":
        assert all(row["within"] for row in layers)
    assert len(bundle.files["layers.npz"]) < 40_000


def test_model_whose_hash_was_forged_too_is_located_by_what_the_export_kept(bundles, tmp_path):
    bundle = bundles["tcn", "float32"]
    node = "blocks.0.body.conv1/Conv"
    broken = planted(bundle.files["model.onnx"], node, "one weight")
    found = locate_layer(changed(bundle, broken), changed(bundle, broken), PASSED)
    assert found.first.node == node
    assert any("not the one that was traced" in note for note in found.notes)


def test_another_machine_may_round_elsewhere(bundles):
    for precision in PRECISIONS:
        bundle = bundles["tcn", precision]
        host = {**bundle.manifest.host, "cpu": "a machine far away"}
        moved = replace(bundle, manifest=replace(bundle.manifest, host=host))
        found = locate_layer(moved, moved, PASSED)
        assert found.first is None
        assert any("on another machine" in note for note in found.notes)


def test_node_that_was_added_is_blamed_where_it_stands(bundles):
    bundle = bundles["tcn", "float32"]
    model = onnx.load_from_string(bundle.files["model.onnx"])
    (conv,) = [n for n in model.graph.node if n.name == "blocks.1.body.conv1/Conv"]
    value = conv.output[0]
    for node in model.graph.node:
        node.input[:] = ["clipped" if name == value else name for name in node.input]
    at = list(model.graph.node).index(conv) + 1
    model.graph.node.insert(at, onnx.helper.make_node("Abs", [value], ["clipped"], "by_hand"))
    found = locate_layer(bundle, changed(bundle, model.SerializeToString()), PASSED)
    assert (found.first.node, found.first.note) == ("by_hand", "not in the exported graph")


def test_fault_that_shows_on_other_signals_only_is_located_on_those(bundles, tmp_path):
    bundle, path = bundles["tcn", "float32"], tmp_path / "clipped.onnx"
    model = onnx.load_from_string(bundle.files["model.onnx"])
    (conv,) = [n for n in model.graph.node if n.name == "blocks.1.body.conv1/Conv"]
    value = conv.output[0]
    for node in model.graph.node:
        node.input[:] = ["clipped" if name == value else name for name in node.input]
    most = [onnx.numpy_helper.from_array(np.float32(m), f"most_{m}") for m in (-9999, 9999)]
    model.graph.initializer.extend(most)
    clip = onnx.helper.make_node(
        "Clip", [value, "most_-9999", "most_9999"], ["clipped"], "by_hand"
    )
    model.graph.node.insert(list(model.graph.node).index(conv) + 1, clip)
    onnx.save(model, path)
    ran = run(verify_command, bundle.path, "--model", path, "--locate", "--json")
    assert ran.code == 3
    assert ran.json["located"]["feed"] == "large"
    assert ran.json["located"]["first_outside"]["node"] == "by_hand"


def test_fault_of_a_rewrite_is_told_apart_from_one_of_a_layer(
    tiny_model, tmp_path, monkeypatch
):
    monkeypatch.setitem(plans.PLANS, "onnx", REWRITES["a bias dropped"])
    ran = run(export_command, tiny_model, "--target", "onnx", "--out", tmp_path, "-q")
    assert ran.code == 3
    ran = run(verify_command, tmp_path / "tiny-onnx-float32", "--locate")
    assert ran.code == 3
    assert "no layer is outside its limits" in ran.stdout
    assert "the fault is in how the model was read or rewritten" in ran.stdout


def test_layer_renamed_without_a_change_is_not_blamed(bundles):
    bundle = bundles["tcn", "float32"]
    model = onnx.load_from_string(bundle.files["model.onnx"])
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [n.replace("blocks.1.body.relu1/Relu", "other") for n in names]
    found = locate_layer(bundle, changed(bundle, model.SerializeToString()), PASSED)
    assert found.first is None


def test_noise_of_an_export_that_failed_is_located_by_the_limit_of_its_class(bundles):
    """An int8 bundle whose export lost parity has nothing to be compared with but float64."""
    bundle = bundles["tcn", "int8"]
    node = "blocks.1.body.conv1/Conv"
    broken = changed(bundle, planted(bundle.files["model.onnx"], node, "wrong sign"))
    recorded = layers_from_bytes(bundle.files["layers.npz"])
    with np.load(bundle.path / "golden.npz") as golden:
        x = golden[f"{recorded.feed}/input/signal"][: recorded.windows]
    trace = Trace()
    run_units(read_graph(broken.files["model.onnx"]), {"signal": x}, trace.add)
    rows = judge_layers(recorded, trace, "int8")
    first = first_outside(rows, trace, None)
    assert first.sqnr_db < first.limit_db == 20
    assert first.node == node


def test_graph_for_tensorrt_is_located_on_the_cpu(tiny_model, tiny_data, tmp_path):
    options = ["--target", "trt", "--precision", "int8", "--data", tiny_data, "--bundle-only"]
    options += ["--max-drop", 20, "--out", tmp_path, "-q"]
    assert run(export_command, tiny_model, *options).code == 0
    bundle = load_bundle(tmp_path / "tiny-trt-int8")
    located, unseen = search(bundle)
    assert located.total() > 5 * unseen.total(), (located, unseen)
    told = run(verify_command, bundle.path, "--locate")
    assert (told.code, "not on the target (trt)" in told.stdout) == (0, True), told.stderr
    assert "judged on the CPU, not as an engine" in told.stderr
