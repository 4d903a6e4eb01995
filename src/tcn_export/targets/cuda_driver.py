"""The CUDA driver of this machine, asked without any CUDA package."""

from __future__ import annotations

import ctypes
import sys

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def count_devices() -> tuple[int, str]:
    """How many CUDA devices the driver gives, and in words what was found."""
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError:
        return 0, f"no CUDA driver is installed ({_LIBRARY} cannot be loaded)"
    status = driver.cuInit(0)
    if status:
        return 0, f"the CUDA driver cannot start (cuInit gives {status})"
    count = ctypes.c_int(0)
    status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status:
        return 0, f"the CUDA driver cannot count devices (cuDeviceGetCount gives {status})"
    return count.value, f"the CUDA driver has {count.value} devices"
