"""On what, and with what, an artifact was made: recorded in its manifest."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    "tcn-export",
    "torch",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "numpy",
)
_BUSY = 0.5
"""Half a core that others use shows in what is measured."""
_ISA_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "asimd", "asimddp", "i8mm")


def tools() -> dict[str, str]:
    """Versions of Python and of every package that had a part in the export."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def load() -> float | None:
    """Processes that wanted a core, on average over the last minute; None where not told."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def busy(load: float | None) -> str | None:
    """A remark on the `load` that was found before a measurement; None where it is light."""
    if load is None or load <= _BUSY:
        return None
    return (
        f"the machine was busy: {load:.1f} processes wanted its {cores()} cores in the minute "
        "before"
    )


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # a container may have fewer than the machine
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def host() -> dict[str, str | list[str]]:
    """The processor and those of its instruction sets that decide about speed and int8."""
    cpu, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.is_file():  # Linux; elsewhere the platform's own name has to do
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                cpu = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags = value
                break
    present = set(flags.split())
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu,
        "isa": [flag for flag in _ISA_FLAGS if flag in present],
    }
