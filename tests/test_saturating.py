"""A file that saturates without VNNI, through the real command."""

from __future__ import annotations

import numpy as np
import pytest

from support import make_checkpoint, make_data, run
from tcn_export import ExportOptions
from tcn_export.cli.export import main as export_command
from tcn_export.cli.inspect import main as inspect_command
from tcn_export.errors import UsageError
from tcn_export.models.tcn import TCNConfig
from tcn_export.source.checkpoint import load_source

INT8 = ("--target", "onnx", "--precision", "int8", "--layout", "1d", "--int8-only")


@pytest.fixture(scope="module")
def saturating(tmp_path_factory):
    """A network all of whose first weights are large, and windows that it answers."""
    folder = tmp_path_factory.mktemp("saturating")
    config = TCNConfig(
        in_channels=3, outputs=4, widths=(8,) * 3, dilations=(1, 2, 4), head="every"
    )
    model = make_checkpoint(folder / "m.pt", config, length=128)
    state = load_source(model).module.state_dict()
    for name, value in state.items():
        if name.endswith("weight") and value.ndim == 3:
            state[name] = value.sign() * value.abs().mean()
    make_checkpoint(model, config, length=128, state_dict=state)
    return model, make_data(folder / "d.npz", model, 300)


def exported(saturating, out, isa, *options):
    model, data = saturating
    more = ("--data", data, "--cpu-isa", isa, "--max-drop", "99", "--out", out, "--json")
    return run(export_command, model, *INT8, *more, *options)


def test_an_export_for_vnni_warns_of_what_it_does_without(saturating, tmp_path):
    ran = exported(saturating, tmp_path, "vnni")
    told = ran.json["quantization"]
    found = told["saturation"]
    assert (told["dialect"], told["isa"]) == ("onnxruntime-x86-vnni", "vnni")
    layers = [entry["layer"] for entry in found["saturating"]]
    assert "blocks.0.body.conv1" in layers
    assert found["changed"] > 0
    assert found["lost_points"] > 0
    warning = (
        f"Warning: on a CPU without VNNI this file saturates in {len(layers)} of "
        f"{found['convolutions']} integer layers and loses {found['lost_points']:.1f} points "
        f"({found['changed']} of 256 windows answer otherwise); use --cpu-isa avx2."
    )
    assert warning in ran.stderr
    shown = run(inspect_command, tmp_path / "m-onnx-int8")
    assert "made for" in shown.stdout
    assert "on a CPU without VNNI this file saturates" in " ".join(shown.stdout.split())


@pytest.mark.parametrize("isa", ["avx2", "arm64"])
def test_an_export_for_other_processors_has_nothing_to_warn_of(isa, saturating, tmp_path):
    ran = exported(saturating, tmp_path, isa)
    told = ran.json["quantization"]
    assert told["isa"] == isa
    assert "saturation" not in told
    assert told["coverage"]["left_in_float"] == []
    assert "VNNI" not in ran.stderr.replace("without VNNI: ", "")


@pytest.mark.parametrize(
    "options",
    [
        {"cpu_isa": "avx2"},
        {"cpu_isa": "vnni", "precision": "float16"},
        {"cpu_isa": "arm64", "precision": "int8", "target": "trt", "data": "noise"},
        {"cpu_isa": "sse2", "precision": "int8", "data": "noise"},
    ],
)
def test_processors_are_named_for_int8_on_a_cpu_only(options):
    with pytest.raises(UsageError, match=r"--cpu-isa|CPU"):
        ExportOptions(**options)


def test_the_processor_of_this_machine_is_the_default():
    options = ExportOptions(precision="int8", data="noise")
    assert options.dialect.isa in ("vnni", "avx2", "arm64")
    assert np.isin(options.dialect.activation, ["uint8", "int8"])
