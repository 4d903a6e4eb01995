from __future__ import annotations

import json
import shutil

import pytest

from support import run
from tcn_export.bundle import bundle_path, check_vacant, load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.errors import BundleError, OutputError, UsageError
from tcn_export.manifest import Manifest
from tcn_export.rewrite.plans import LAYOUTS


@pytest.fixture(scope="module")
def written(tmp_path_factory, tiny_model):
    out = tmp_path_factory.mktemp("bundle")
    ran = run(export_command, tiny_model, "--target", "onnx", "--out", out, "-q")
    assert ran.code == 0
    return out / "tiny-onnx-float32"


@pytest.fixture
def bundle(written, tmp_path):
    return shutil.copytree(written, tmp_path / "bundle")


def edit(bundle, change):
    path = bundle / "manifest.json"
    entries = json.loads(path.read_text())
    change(entries)
    path.write_text(json.dumps(entries))


def test_bundle_holds_what_the_design_lists(written):
    layout = load_bundle(written).manifest.layout
    candidates = {candidate["file"] for candidate in layout["candidates"]}
    assert len(candidates) == len(layout["candidates"]) > 1
    assert {p.name for p in written.iterdir()} == {
        "manifest.json", "golden.npz", "layers.npz", "report.json", "report.html", *candidates,
    }  # fmt: skip
    assert "model.onnx" in candidates
    entries = json.loads((written / "manifest.json").read_text())
    assert set(entries) >= {
        "schema", "name", "target", "precision", "mode", "hop", "model", "inputs", "outputs",
        "states", "receptive_field", "lookahead", "causal", "sample_rate_hz", "classes",
        "source", "tools", "host", "rewrites", "quantization", "parity", "latency", "verified",
        "waived", "files",
    }  # fmt: skip
    assert entries["verified"] is True
    assert entries["inputs"][0]["shape"] == ["batch", 3, 24]
    names = [step["name"] for step in entries["rewrites"]]
    shared = ["merge_pad", "crop_to_padding", "fold_batch_norm", "split_mean", "last_step"]
    plan = [rewrite.name for rewrite in LAYOUTS[layout["choice"]]]
    assert names == [*shared, *plan]
    assert str(written.parent) not in json.dumps(entries)


def test_fields_that_a_newer_version_adds_are_passed_over(bundle):
    def add(entries):
        entries["more"] = entries["inputs"][0]["unit"] = entries["outputs"][0]["unit"] = "g"

    edit(bundle, add)
    assert load_bundle(bundle).manifest.signature.inputs[0].name == "signal"


def test_manifest_survives_its_json_form(written):
    loaded = load_bundle(written)
    assert Manifest.from_json(loaded.manifest.to_json()) == loaded.manifest


def test_settings_reach_the_artifact(bundle):
    assert load_bundle(bundle).artifact().settings == {}
    told = {"cuda_graph": True, "profile": {"batch": [1, 8]}, "core": None}
    edit(bundle, lambda entries: entries.update(settings=told))
    assert load_bundle(bundle).artifact().settings == told


def test_bundles_from_before_there_were_settings_have_none(bundle):
    edit(bundle, lambda entries: entries.pop("settings"))
    assert load_bundle(bundle).manifest.settings == {}


def test_settings_of_another_kind_are_refused(bundle):
    edit(bundle, lambda entries: entries.update(settings=["cuda_graph"]))
    with pytest.raises(BundleError, match=r"`manifest.settings` is .*, expected an object"):
        load_bundle(bundle)


def test_every_listed_file_was_read(written):
    loaded = load_bundle(str(written))
    names = {path.name for path in written.iterdir()}
    assert set(loaded.files) == names - {"manifest.json"} > {"model.onnx", "golden.npz"}
    assert loaded.files["model.onnx"] == (written / "model.onnx").read_bytes()


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "report.json"])
def test_changed_and_missing_files_are_noticed(bundle, name):
    raw = bytearray((bundle / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (bundle / name).write_bytes(raw)
    with pytest.raises(BundleError, match=f"{name} is not the file that was exported"):
        load_bundle(bundle)
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"lacks its file {name}"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "..", ".", "", "a/b", "sub/../model.onnx"]
)
def test_files_outside_the_folder_are_never_read(bundle, name):
    (bundle.parent / "secret").write_text("x")
    edit(bundle, lambda m: m["files"].update({name: "0" * 64}))
    with pytest.raises(BundleError, match="does not lie in it"):
        load_bundle(bundle)


def test_links_out_of_the_folder_are_not_followed(bundle, tmp_path):
    (bundle / "model.onnx").rename(tmp_path / "elsewhere")
    (bundle / "model.onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="does not lie in it"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema=2), "has the schema 2; this version reads 1"),
        (lambda m: m.pop("inputs"), "`manifest.inputs` is missing"),
        (lambda m: m.update(files=[]), r"`manifest.files` is \[\], expected an object"),
        (
            lambda m: m.update(files={"model.onnx": 1}),
            r"`manifest.files.model.onnx` is 1, exp",
        ),
        (
            lambda m: m.update(inputs=[{"name": "x"}]),
            r"`manifest.inputs\[0\].dtype` is missing",
        ),
        (
            lambda m: m["inputs"][0].update(shape=[[1]]),
            r"shape\[0\]` is \[1\], expected an int",
        ),
        (lambda m: m["inputs"][0].update(dtype="foo"), "dtype` is 'foo', expected one of flo"),
        (lambda m: m.update(model=7), "`manifest.model` is 7, expected printable text"),
        (lambda m: m.update(model="other.onnx"), "lists no hash for its model `other.onnx`"),
        (lambda m: m.update(precision="int4"), "the precision 'int4' and .* Use a newer one"),
        (lambda m: m.update(inputs=[]), "`manifest.inputs` is empty"),
        (lambda m: m["parity"].update(max_drop=10**400), "expected a finite number"),
        (lambda m: m["parity"].update(max_drop=True), "is True, expected a finite number"),
        (lambda m: m.update(classes=["\x1b[31mEVIL"]), "expected printable text"),
        (lambda m: m["host"].update(cpu="\ud800"), "expected printable text"),
        (lambda m: m["files"].update({"a\0b": "0"}), "expected a printable key"),
        (lambda m: m.update(mode="batch"), "the mode 'batch', which this version"),
        (lambda m: m.update(sample_rate_hz=float("nan")), "holds NaN, which JSON does not"),
        (lambda m: m.update(verified="false"), "`manifest.verified` is 'false', expected a b"),
        (lambda m: m.update(verified=1), "`manifest.verified` is 1, expected a bool"),
        (lambda m: m.update(sample_rate_hz="x"), "sample_rate_hz` is 'x', expected a finite"),
        (
            lambda m: m.update(sample_rate_hz=True),
            "sample_rate_hz` is True, expected a finite",
        ),
        (lambda m: m.update(latency={"a": 1}), "`manifest.latency.median_us` is missing"),
        (lambda m: m.update(rewrites=[{"name": "x"}]), r"rewrites\[0\].modified` is missing"),
        (lambda m: m.update(source={}), "`manifest.source.file` is missing"),
        (lambda m: m["parity"].pop("verdict"), "`manifest.parity.verdict` is missing"),
        (lambda m: m["parity"].update(data=[]), r"parity.data` is \[\], expected an object"),
        (lambda m: m["parity"]["rows"][0].pop("note"), r"rows\[0\].note` is missing"),
    ],
)
def test_damaged_manifests_are_named(bundle, change, message):
    edit(bundle, change)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle)


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match="is not a bundle"):
        load_bundle(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="is not JSON"):
        load_bundle(tmp_path)
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(BundleError, match="is not JSON"):
        load_bundle(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(BundleError, match="has the schema None"):
        load_bundle(tmp_path)


def test_target_of_a_newer_version_is_refused(bundle):
    edit(bundle, lambda m: m.update(target="dsp"))
    with pytest.raises(BundleError, match="the target 'dsp', which this version"):
        load_bundle(bundle).runner()


@pytest.mark.parametrize("name", ["a" * 151, "line\nbreak", "bad\udcff"])
def test_names_that_no_folder_can_have_are_refused(name, tmp_path):
    with pytest.raises(UsageError, match="cannot be that of a folder"):
        bundle_path(tmp_path, name, "onnx", "int8")


def test_only_bundles_are_ever_replaced(tmp_path, bundle):
    assert bundle_path(tmp_path, "a", "onnx", "int8") == tmp_path / "a-onnx-int8"
    check_vacant(tmp_path / "none", overwrite=False)
    check_vacant(bundle, overwrite=True)
    with pytest.raises(OutputError, match=r"already exists\. Replace it with --overwrite"):
        check_vacant(bundle, overwrite=False)
    (tmp_path / "photos").mkdir()
    with pytest.raises(OutputError, match="is not a bundle, so --overwrite does not"):
        check_vacant(tmp_path / "photos", overwrite=True)
