"""What ``tcn-inspect`` tells, and what ``tcn-export`` warns of."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from support import TINY_LENGTH, make_checkpoint, run
from tcn_export import load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.cli.inspect import main as inspect_command
from tcn_export.report.dependence import TOLD_TOGETHER
from user_networks import PLAIN


def of(factory="network", length=64, **changes):
    arguments = {**(PLAIN if factory == "network" else {}), **changes}
    return (
        "--factory", f"user_networks:{factory}", "--factory-args", json.dumps(arguments),
        "--input-shape", f"2,{length}",
    )  # fmt: skip


def without_torch(bundle):
    """What the command prints where only numpy, click and rich are installed."""
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnx_ir', 'onnxruntime'): sys.modules[name] = None\n"
        "from tcn_export.cli.inspect import main\n"
        "main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, bundle], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_checkpoint_is_analysed_measured_and_drawn(tiny_model):
    shown = run(inspect_command, tiny_model)
    assert shown.code == 0
    told = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    for line in (
        "reads logits: the last step",
        "receptive field 15 steps (300 ms)",
        "lookahead none: causal",
        "window 24 steps, 9 of them never read",
        (
            "measured 24 steps of 3 random windows moved: "
            "answers follow up to 14 steps later, none earlier"
        ),
        "signal ███████████████ 15",
        "a column is 1 step: █ needed for one answer, · not",
    ):  # fmt: skip
        assert line in told, shown.stdout
    assert shown.stderr.endswith(
        "Warning: 9 of the 24 steps of the window are never read. Leave the first 9 out: "
        "--length 15.\n"
    )


def test_a_leak_is_named_in_words_and_in_json():
    shown = run(inspect_command, *of("leaking"))
    assert "1 step: not causal" in shown.stdout
    assert "`blocks.1.skip/Pad` (Pad in the module `blocks.1.skip`)" in shown.stdout
    entries = run(inspect_command, *of("leaking"), "--json").json
    assert (entries["causal"], entries["lookahead"]) == (False, 1)
    assert entries["dependence"]["looks_ahead"] == [
        "`blocks.1.skip/Pad` (Pad in the module `blocks.1.skip`)"
    ]
    assert entries["dependence"]["measured"]["lookahead"] == 1


def test_another_window_may_be_asked_for(tiny_model):
    shown = run(inspect_command, tiny_model, "--length", 10, "--json").json["dependence"]
    assert (shown["window"], shown["needed"]) == (10, 10)
    assert "shorter than the receptive field of 15" in shown["warnings"][0]


def test_the_length_that_is_shown_is_the_one_that_was_asked_for(tiny_model):
    assert run(inspect_command, tiny_model, "--json").json["window_length"] == TINY_LENGTH
    entries = run(inspect_command, tiny_model, "--length", 20, "--json").json
    assert (entries["window_length"], entries["dependence"]["window"]) == (20, 20)


def test_a_bundle_for_any_length_says_so(tmp_path, tiny_model):
    to = ("--target", "onnx", "--out", tmp_path, "--json")
    made = run(export_command, tiny_model, "--length", "dynamic", *to)
    bundle = tmp_path / "tiny-onnx-float32"
    assert made.json["dependence"]["is_dynamic"] is True
    assert f"any length; e.g. {TINY_LENGTH} steps here" in without_torch(bundle)
    entries = json.loads((bundle / "manifest.json").read_text())
    del entries["dependence"]["is_dynamic"]  # as older versions wrote it
    (bundle / "manifest.json").write_text(json.dumps(entries))
    assert load_bundle(bundle).manifest.dependence["is_dynamic"] is False


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda found: found["cone"].update(per_column=0), "`manifest.dependence.cone.per_c"),
        (
            lambda found: found["cone"].update(first=-(10**300)),
            "`manifest.dependence.cone.fir",
        ),
        (lambda found: found["cone"].update(rows=[]), None),
        (lambda found: found["cone"].update(first=-(10**12)), None),
        (lambda found: found.update(stride=None), None),
        (lambda found: found["measured"].update(lookahead=None), None),
        (lambda found: [row.update(drawn="") for row in found["cone"]["rows"]], None),
    ],
)
def test_a_damaged_bundle_is_printed_or_refused(damage, told, tmp_path, tiny_model):
    run(export_command, tiny_model, "--target", "onnx", "--out", tmp_path, "-q")
    manifest = tmp_path / "tiny-onnx-float32" / "manifest.json"
    entries = json.loads(manifest.read_text())
    damage(entries["dependence"])
    manifest.write_text(json.dumps(entries))
    shown = run(inspect_command, manifest.parent)
    if told is None:
        assert (shown.code, "receptive field" in shown.stdout) == (0, True), shown.stderr
    else:
        assert shown.code == 1
        assert told in shown.stderr.replace("\n", "")


def test_a_bundle_tells_the_same_without_its_network(tmp_path):
    made = run(
        export_command, *of(head="last"), "--target", "onnx", "--out", tmp_path, "--json"
    )
    bundle = tmp_path / "network-onnx-float32"
    network = run(inspect_command, *of(head="last"), "--json").json
    for name in TOLD_TOGETHER:
        assert made.json[name] == network[name], name
    shown = without_torch(bundle)
    drawing = run(inspect_command, *of(head="last")).stdout.split("signal  ")[-1]
    assert shown.endswith(drawing)
    assert "receptive field" in shown


def test_a_bundle_of_an_earlier_version_can_be_told(tmp_path, tiny_model):
    run(export_command, tiny_model, "--target", "onnx", "--out", tmp_path, "-q")
    manifest = tmp_path / "tiny-onnx-float32" / "manifest.json"
    entries = json.loads(manifest.read_text())
    del entries["dependence"]
    manifest.write_text(json.dumps(entries))
    assert load_bundle(manifest.parent).manifest.dependence is None
    assert "not analysed" in run(inspect_command, manifest.parent).stdout


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((), "give one thing to inspect"),
        (("m.onnx", *of()), "an ONNX model is a whole network and needs none"),
        (("--length", "9"), "give one thing to inspect"),
        (("{bundle}", "--length", "9"), "--length was given for the bundle"),
        (("{bundle}", "--factory", "a:b"), "--factory was given for the bundle"),
        (("--factory", "user_networks:network"), "Give --input-shape"),
        (("{model}", "--input-shape", "3,24"), "belongs to --factory, or to an .onnx"),
    ],
)
def test_options_that_do_not_go_together(given, told, tiny_model, tmp_path):
    (tmp_path / "bundle").mkdir()
    places = {"{model}": tiny_model, "{bundle}": tmp_path / "bundle"}
    ran = run(inspect_command, *(places.get(word, word) for word in given))
    assert ran.code == 2
    assert told in ran.stderr


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (10, "Warning: the window of 10 steps is shorter than the receptive field of 15"),
        (40, "Warning: 25 of the 40 steps of the window are never read"),
        (TINY_LENGTH - 6, None),
    ],
)
def test_an_export_warns_of_a_window_that_does_not_fit(length, words, tmp_path):
    model = make_checkpoint(tmp_path / "m.pt", length=length)
    to = ("--target", "onnx", "--out", tmp_path, "--overwrite")
    loud, quiet = run(export_command, model, *to), run(export_command, model, *to, "-q")
    warned = run(export_command, model, *to, "--json").json["dependence"]["warnings"]
    assert (loud.code, quiet.code, quiet.stderr) == (0, 0, "")
    if words is None:
        assert warned == []
        assert "Warning" not in loud.stderr
        assert "warning" not in loud.stdout
    else:
        assert words in loud.stderr
        assert warned[0].startswith(words.removeprefix("Warning: "))
