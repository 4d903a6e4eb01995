"""What NVIDIA hardware and libraries are here, found without importing any of them.

TensorRT crashes the interpreter, or returns empty objects, where there is no driver; so it is
imported only where this probe found a device, and in a process of its own. The driver is asked
through ctypes (CUDA driver API: cuInit, cuDeviceGetCount, cuDeviceGetAttribute).

Part of ``build_engine.py``: Python 3.8, standard library only.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any

FULL, RTX = "tensorrt", "tensorrt_rtx"
_MODULES = {"auto": (FULL, RTX), "tensorrt": (FULL,), "rtx": (RTX,)}
_DISTRIBUTIONS = {
    FULL: re.compile(r"tensorrt(-cu\d+)?"),
    RTX: re.compile(r"tensorrt-rtx(-cu\d+)?"),
}
_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_MAJOR, _MINOR, _IS_INTEGRATED = 75, 76, 18  # of CUdevice_attribute


@dataclass(frozen=True)
class Device:
    """One CUDA device."""

    name: str
    compute_capability: str
    memory_mib: int
    is_integrated: bool

    def to_json(self) -> dict[str, Any]:
        """The entry of a sidecar or report."""
        return dict(vars(self))


@dataclass(frozen=True)
class Probe:
    """What was found.

    Attributes:
        driver: CUDA version of the driver, such as 12.6; None where none could be loaded.
        devices: All devices that the driver knows.
        libraries: Version of each module that can be imported; "" where it is unknown.
        problem: Why there are no devices; "" where there are some.
    """

    driver: str | None
    devices: tuple[Device, ...]
    libraries: dict[str, str]
    problem: str

    def runtime(self, wanted: str = "auto") -> str | None:
        """The module to import: full TensorRT before TensorRT for RTX; None if absent."""
        return next((name for name in _MODULES[wanted] if name in self.libraries), None)

    def why_not(self, wanted: str = "auto") -> str | None:
        """Why no engine can be built and run here; None where one can."""
        if not self.devices:
            return self.problem
        if self.runtime(wanted) is None:
            return f"{_MODULES[wanted][0]} is not installed"
        return None


def probe() -> Probe:
    """Ask the driver for devices, and the installed packages for TensorRT."""
    libraries = {name: _version(name) for name in (FULL, RTX) if find_spec(name) is not None}
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return Probe(None, (), libraries, "no CUDA device")
    code = driver.cuInit(0)
    if code:
        return Probe(None, (), libraries, f"no CUDA device (cuInit gives error {code})")
    devices = tuple(_devices(driver))
    problem = "" if devices else "no CUDA device"
    return Probe(_driver_version(driver), devices, libraries, problem)


def _devices(driver: Any) -> Iterator[Device]:
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    for index in range(count.value):
        device, memory = ctypes.c_int(), ctypes.c_size_t()
        name = ctypes.create_string_buffer(256)
        driver.cuDeviceGet(ctypes.byref(device), index)
        driver.cuDeviceGetName(name, len(name), device)
        driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        major, minor, integrated = (
            _attribute(driver, device, number) for number in (_MAJOR, _MINOR, _IS_INTEGRATED)
        )
        yield Device(
            name.value.decode(errors="replace"),
            f"{major}.{minor}",
            memory.value // 2**20,
            bool(integrated),
        )


def _attribute(driver: Any, device: Any, number: int) -> int:
    value = ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value


def _driver_version(driver: Any) -> str:
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _version(module: str) -> str:
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if _DISTRIBUTIONS[module].fullmatch(name):
            return distribution.version
    return ""
