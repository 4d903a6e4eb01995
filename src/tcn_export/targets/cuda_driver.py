"""The CUDA devices of this machine, asked of the driver without any CUDA package.

(CUDA driver API through ctypes: cuInit, cuDeviceGetCount, cuDeviceGetAttribute.)

Part of ``build_engine.py``: Python 3.8, standard library only.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
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
class Driver:
    """What the driver said.

    Attributes:
        version: Of CUDA, such as 12.6; None where no driver could be loaded or started.
        devices: All that it knows.
        problem: Why there are no devices, and what was found; "" where there are some.
    """

    version: str | None
    devices: tuple[Device, ...]
    problem: str


def ask_driver() -> Driver:
    """Load the driver and ask it for its devices."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return Driver(None, (), f"{_LIBRARY} cannot be loaded")
    code = library.cuInit(0)
    if code:
        return Driver(None, (), f"cuInit gives error {code}")
    devices = tuple(_devices(library))
    return Driver(_version(library), devices, "" if devices else "the driver knows none")


def _devices(library: Any) -> Iterator[Device]:
    count = ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    for index in range(count.value):
        device, memory = ctypes.c_int(), ctypes.c_size_t()
        name = ctypes.create_string_buffer(256)
        library.cuDeviceGet(ctypes.byref(device), index)
        library.cuDeviceGetName(name, len(name), device)
        library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        major, minor, integrated = (
            _attribute(library, device, number) for number in (_MAJOR, _MINOR, _IS_INTEGRATED)
        )
        yield Device(
            name.value.decode(errors="replace"),
            f"{major}.{minor}",
            memory.value // 2**20,
            bool(integrated),
        )


def _attribute(library: Any, device: Any, number: int) -> int:
    value = ctypes.c_int()
    library.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value


def _version(library: Any) -> str:
    version = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"
