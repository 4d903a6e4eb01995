"""The Dockerfile keeps its promises as far as reading it shows; a tool runs its steps."""

from __future__ import annotations

import importlib.util
import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools/check_dockerfile.py"
spec = importlib.util.spec_from_file_location("check_dockerfile", TOOL)
assert spec
assert spec.loader
tool = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = tool  # dataclasses look their module up
spec.loader.exec_module(tool)

TEXT = (ROOT / "Dockerfile").read_text()
IGNORE = (ROOT / ".dockerignore").read_text().splitlines()
FILE = tool.parse(TEXT)
FINAL = ("jetson", "gpu", "cpu")
LAST_STEPS = {name: FILE.stage(name).instructions for name in FINAL}


def values(steps, word):
    return [step.text for step in steps if step.word == word]


def context_sources():
    """What COPY takes from the context, not from another stage."""
    for stage in FILE.stages:
        for text in values(stage.instructions, "COPY"):
            if not text.startswith("--from="):
                yield from text.split()[:-1]


def test_the_default_stage_is_cpu():
    assert FILE.stages[-1].name == "cpu"
    assert set(FINAL) <= {stage.name for stage in FILE.stages}


def test_each_stage_has_a_name_of_its_own():
    names = [stage.name for stage in FILE.stages]
    assert all(names)
    assert len(set(names)) == len(names)


def test_base_images_are_pinned_by_tag_or_are_stages():
    known = set()
    for stage in FILE.stages:
        tag = stage.base.rpartition("/")[2].partition(":")[2]
        assert stage.base in known or (re.search(r"\d+\.\d+\.\d+", tag)), stage.base
        known.add(stage.name)


@pytest.mark.parametrize("name", FINAL)
def test_images_run_as_a_user_that_is_a_number_and_not_root(name):
    user = values(LAST_STEPS[name], "USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    words = [step.word for step in LAST_STEPS[name]]
    assert "RUN" not in words[words.index("USER") :]


@pytest.mark.parametrize(
    ("name", "command"),
    [("cpu", "tcn-export"), ("gpu", "tcn-export"), ("jetson", "tcn-verify")],
)
def test_entrypoints_are_commands_of_the_project(name, command):
    assert values(LAST_STEPS[name], "ENTRYPOINT") == [f'["{command}"]']
    assert f'{command} = "tcn_export.' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", FINAL)
def test_final_layers_hold_no_package_manager_s_work(name):
    runs = " ".join(values(LAST_STEPS[name], "RUN"))
    assert not re.search(r"\b(pip|apt-get|apt|gcc|curl|wget)\b", runs)


def test_files_that_are_copied_exist_and_pass_dockerignore():
    sources = set(context_sources())
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not tool.is_ignored(source, IGNORE), source
    assert not tool.is_ignored("src/tcn_export/errors.py", IGNORE)


def test_what_pip_reads_is_copied_before():
    for stage in FILE.stages:
        for text in values(stage.instructions, "RUN"):
            for path in re.findall(r"--constraint /src/(\S+)", text):
                assert path in set(context_sources())
            if "pip install" in text and "TENSORRT" not in text:
                assert "--constraint" in text


@pytest.mark.parametrize(
    "path",
    [
        ".git/config", ".venv/bin/python", "exported/README.md", "tests/conftest.py",
        "src/tcn_export/__pycache__/errors.cpython-311.pyc", "Dockerfile",
        ".env", "model.pt",
    ],
)  # fmt: skip
def test_dockerignore_keeps_everything_else_away(path):
    assert tool.is_ignored(path, IGNORE)


def test_no_secrets():
    assert not re.search(r"(?i)password|secret|token|api_?key|://[^/\s]+@", TEXT)


def test_no_stage_is_left_over():
    used = {stage.name for name in FINAL for stage in tool.needed(FILE, name)}
    assert used == {stage.name for stage in FILE.stages}


def test_jetson_needs_no_torch_and_no_onnx_runtime():
    steps = [step for stage in tool.needed(FILE, "jetson") for step in stage.instructions]
    runs = " ".join(values(steps, "RUN"))
    assert "torch" not in runs
    assert "[" not in runs  # no extra


def test_gpu_takes_no_cpu_runtime():
    steps = [step for stage in tool.needed(FILE, "gpu") for step in stage.instructions]
    runs = " ".join(values(steps, "RUN"))
    assert "onnxruntime-gpu[cuda,cudnn]" in runs
    assert not re.search(r"\[[^]]*\bcpu\b", runs)


def test_gpu_constraints_pin_each_package_once():
    lines = (ROOT / "tools/constraints-gpu.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", pin) for pin in pins)
    common = (ROOT / "tools/constraints.txt").read_text()
    for name in (pin.split("==")[0] for pin in pins):
        assert not re.search(rf"^{re.escape(name)}==", common, flags=re.M), name


def test_version_labels_are_the_version():
    labels = re.findall(r'image\.version="([^"]+)"', TEXT)
    assert labels
    assert set(labels) == {version("tcn-export")}


def test_a_build_argument_overrides_a_base_image():
    changed = tool.parse(TEXT, {"JETSON_IMAGE": "other:1.2.3"})
    assert changed.stage("jetson").base == "other:1.2.3"
    assert changed.stage("cpu").base == FILE.stage("cpu").base


@pytest.mark.parametrize(
    ("path", "patterns", "ignored"),
    [
        ("a/b", [], False),
        ("a/b", ["a"], True),
        ("a/b", ["*", "!a"], False),
        ("a/b/c", ["*", "!a", "**/b"], True),
        ("b", ["**/b"], True),
        ("ab", ["**/b"], False),
        ("a", ["!a", "*"], True),
        ("a", ["# a", ""], False),
    ],
)
def test_dockerignore_is_read_as_docker_reads_it(path, patterns, ignored):
    assert tool.is_ignored(path, patterns) is ignored


def test_an_unknown_instruction_stops_the_tool():
    with pytest.raises(SystemExit, match="HEALTHCHECK is not known here"):
        tool.perform(tool.Image(ROOT), tool.Instruction("HEALTHCHECK", "NONE"), None)
