from __future__ import annotations

import pytest

from tcn_export.targets.tensorrt.probe import version_numbers
from tcn_export.targets.tensorrt.trtexec import trtexec_line

PROFILES = {"signal": [[1, 9, 512], [1, 9, 512], [32, 9, 512]]}
SETTINGS = {
    "profiles": PROFILES,
    "tf32": False,
    "workspace_bytes": 2**30,
    "dla_core": None,
    "gpu_fallback": False,
}


@pytest.mark.parametrize(
    ("version", "precision", "expected", "forbidden"),
    [
        ("8.5.2", "int8", ["--int8"], ["--stronglyTyped", "--fp16"]),  # JetPack 5
        ("8.6.2", "float16", ["--fp16"], ["--stronglyTyped", "--int8"]),  # JetPack 6.0
        ("10.3.0", "int8", ["--stronglyTyped"], ["--int8", "--fp16"]),
        ("10", "int8", ["--stronglyTyped"], ["--int8"]),
        ("11.4.0", "float16", [], ["--stronglyTyped", "--fp16"]),  # always strongly typed
        ("11", "float16", [], ["--stronglyTyped", "--fp16"]),
    ],
)
def test_precision_is_told_only_where_the_graph_does_not_say_it(
    version, precision, expected, forbidden
):
    words = trtexec_line(version, precision, SETTINGS).split()
    assert set(expected) <= set(words)
    assert not set(forbidden) & set(words)
    assert "--noTF32" in words
    assert "--minShapes=signal:1x9x512" in words
    assert "--maxShapes=signal:32x9x512" in words
    assert "--memPoolSize=workspace:1024" in words


def test_accelerator_and_tf32():
    asked = {"tf32": True, "dla_core": 1, "gpu_fallback": True, "profiles": {}}
    words = trtexec_line("10.3", "float16", {**SETTINGS, **asked}).split()
    assert words[-2:] == ["--useDLACore=1", "--allowGPUFallback"]
    assert "--noTF32" not in words
    assert not [word for word in words if "Shapes" in word]


def test_names_are_quoted_for_a_shell():
    line = trtexec_line("10.3", "float32", {**SETTINGS, "profiles": {"a b": [[1], [1], [2]]}})
    assert "'--minShapes=a b:1'" in line


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("10.16.1.11", (10, 16, 1, 11)), ("10.3.0rc1", (10, 3, 0)), ("", (0,))],
)
def test_versions_are_compared_as_numbers(text, numbers):
    assert version_numbers(text) == numbers
    assert (version_numbers(text) >= (10, 3)) is (text != "")
