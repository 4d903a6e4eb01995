"""Record which names each version of TensorRT has, for the test of our API contract.

    python tools/record_tensorrt_surface.py

Needs pip, a C compiler, Linux and tensorrt-rtx (the dev extra), no GPU and no NVIDIA library:
TensorRT's Python bindings are wheels of their own, and all they ask of NVIDIA's libraries is a
handful of C functions, which stubs provide that return nothing. So the real bindings of every
version import, in a process of their own, and say what they have. tensorrt-rtx is imported as
it is installed. Only names are written, never documentation or code.

The versions are those of the JetPacks (10.3, 10.16, 11.4); each needs a wheel for the Python
that runs this (3.11 has them all). To record another one, add a line to WHEELS, run this again
and name it in VERSIONS of tests/targets/tensorrt/api_contract.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SURFACE = Path(__file__).resolve().parents[1] / "tests/targets/tensorrt/surface.json"
MOST_BYTES = 300_000
RTX = "rtx-1.7"
# What the record calls it: the package to download, its version. The bindings for CUDA 12 and
# 13 of one version have the same names.
WHEELS = {
    "10.3": ("tensorrt-cu12-bindings", "10.3.0"),
    "10.16": ("tensorrt-cu13-bindings", "10.16.1.11"),
    "11.4": ("tensorrt-cu13-bindings", "11.4.0.106"),
}
LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
# Runs in the other process. A class in a class (Logger.Severity) is told by both names. An
# enum's members are attributes of the enum; inherited attributes belong to the class.
PROBE = """
import importlib, json, sys, types

def public(owner):
    names = [name for name in dir(owner) if not name.startswith("_")]
    return [n for n in names if not isinstance(getattr(owner, n), types.ModuleType)]

def record(owner, prefix, classes):
    for name in public(owner):
        value = getattr(owner, name)
        if isinstance(value, type) and value.__module__.startswith(module.__name__):
            classes[prefix + name] = public(value)
            record(value, prefix + name + ".", classes)
    return classes

module = importlib.import_module(sys.argv[1])
names = sorted({*public(module), "__version__"})
told = {"version": module.__version__, "names": names, "classes": record(module, "", {})}
print(json.dumps(told))
"""


def main() -> None:
    """Record every version and write the file."""
    surface: dict[str, dict[str, object]] = {}
    for label, (package, version) in WHEELS.items():
        with tempfile.TemporaryDirectory() as folder:
            download(package, version, Path(folder))
            make_stubs(version.partition(".")[0], Path(folder))
            surface[label] = {"package": package, **probe("tensorrt_bindings", Path(folder))}
    surface[RTX] = {"package": "tensorrt-rtx", **probe("tensorrt_rtx")}
    text = written(surface)
    if len(text) > MOST_BYTES:
        raise SystemExit(f"{len(text)} bytes are more than the {MOST_BYTES} to be committed")
    SURFACE.write_text(text)
    print(f"{SURFACE}: {len(text) / 1000:.0f} KB")
    for label, told in surface.items():
        print(f"{label}: {told['package']} {told['version']}, {len_of(told)} classes")


def download(package: str, version: str, folder: Path) -> None:
    """Unpack the wheel of the bindings, for this Python, into the folder."""
    arguments = ["download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--dest", folder, f"{package}=={version}"],
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)


def make_stubs(major: str, folder: Path) -> None:
    """Compile the libraries that the bindings ask for; every function returns null."""
    source = folder / "stub.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
    for library in LIBRARIES:
        name = f"lib{library}.so.{major}"
        flags = ["-shared", "-fPIC", f"-Wl,-soname,{name}"]
        subprocess.run(["cc", *flags, "-o", folder / name, source], check=True)


def probe(module: str, folder: Path | None = None) -> dict[str, object]:
    """Import a module in another process and ask for its names.

    Args:
        module: Its name.
        folder: Where it and its libraries are; None means that it is installed.
    """
    found = {} if folder is None else {"PYTHONPATH": folder, "LD_LIBRARY_PATH": folder}
    environment = {**os.environ, **{name: str(value) for name, value in found.items()}}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, module],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told: dict[str, object] = json.loads(done.stdout)
    return told


def len_of(told: dict[str, object]) -> int:
    """How many classes a record holds."""
    classes = told["classes"]
    assert isinstance(classes, dict)
    return len(classes)


def written(surface: dict[str, dict[str, object]]) -> str:
    """JSON with one line per class, so that a new version is a readable difference."""
    compact = json.dumps(surface, sort_keys=True, separators=(",", ":"))
    return compact.replace("],", "],\n").replace("},", "},\n") + "\n"


if __name__ == "__main__":
    main()
