"""The few calls of the CUDA runtime that an engine needs, through ctypes.

Neither PyTorch nor cuda-python is asked for: a Jetson has libcudart, and every TensorRT needs
it. (CUDA Runtime API, versions 11.4 to 13: cudaGraphInstantiateWithFlags is the one spelling
that all of them share.)

Part of ``build_engine.py``: Python 3.8, standard library only.
"""

from __future__ import annotations

import ctypes
import glob
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import suppress
from ctypes import byref, c_int, c_size_t, c_ulonglong, c_void_p
from typing import TYPE_CHECKING, Any

from tcn_export.errors import BundleError, TargetUnavailableError

if TYPE_CHECKING:
    from tcn_export.data import Array

_NAMES = (
    "libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0",
    "cudart64_13.dll", "cudart64_12.dll", "cudart64_110.dll",
)  # fmt: skip
_TO_DEVICE, _TO_HOST = 1, 2
_NEED_ROOM = ("cudaStreamCreate", "cudaMalloc")
"""What fails where the device is not to be had; else what runs on it is at fault."""
_THREAD_LOCAL = 1  # capture only what this thread launches
_SIGNATURES = {
    "cudaMalloc": (c_void_p, c_size_t),
    "cudaFree": (c_void_p,),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "cudaMemsetAsync": (c_void_p, c_int, c_size_t, c_void_p),
    "cudaStreamCreate": (c_void_p,),
    "cudaStreamDestroy": (c_void_p,),
    "cudaStreamSynchronize": (c_void_p,),
    "cudaStreamBeginCapture": (c_void_p, c_int),
    "cudaStreamEndCapture": (c_void_p, c_void_p),
    "cudaGraphInstantiateWithFlags": (c_void_p, c_void_p, c_ulonglong),
    "cudaGraphLaunch": (c_void_p, c_void_p),
    "cudaGraphDestroy": (c_void_p,),
    "cudaGraphExecDestroy": (c_void_p,),
}


class Cuda:
    """The CUDA runtime with one stream, on which everything happens in order.

    Raises:
        TargetUnavailableError: libcudart is not there, or it has no device.
    """

    def __init__(self) -> None:
        self._library = _load()
        for name, arguments in _SIGNATURES.items():
            getattr(self._library, name).argtypes = arguments
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        stream = c_void_p()
        self._call("cudaStreamCreate", byref(stream))
        self.stream = stream
        weakref.finalize(self, self._library.cudaStreamDestroy, stream)

    def allocate(self, size: int) -> int:
        """The address of ``size`` bytes on the device."""
        address = c_void_p()
        self._call("cudaMalloc", byref(address), max(size, 1))
        return int(address.value or 0)

    def free(self, address: int) -> None:
        """Give back what `allocate` gave."""
        self._call("cudaFree", address)

    def upload(self, address: int, array: Array) -> None:
        """Copy a contiguous array to the device."""
        pointer = array.ctypes.data_as(c_void_p)
        self._call("cudaMemcpyAsync", address, pointer, array.nbytes, _TO_DEVICE, self.stream)

    def download(self, array: Array, address: int) -> None:
        """Copy from the device into a contiguous array; complete after `synchronize`."""
        pointer = array.ctypes.data_as(c_void_p)
        self._call("cudaMemcpyAsync", pointer, address, array.nbytes, _TO_HOST, self.stream)

    def clear(self, address: int, size: int) -> None:
        """Fill ``size`` bytes on the device with zeros."""
        self._call("cudaMemsetAsync", address, 0, size, self.stream)

    def synchronize(self) -> None:
        """Wait for everything on the stream."""
        self._call("cudaStreamSynchronize", self.stream)

    def begin_capture(self) -> None:
        """Record launches from here on instead of executing them."""
        self._call("cudaStreamBeginCapture", self.stream, _THREAD_LOCAL)

    def end_capture(self) -> c_void_p:
        """An executable graph of what was launched since `begin_capture`."""
        graph, executable = c_void_p(), c_void_p()
        self._call("cudaStreamEndCapture", self.stream, byref(graph))
        self._call("cudaGraphInstantiateWithFlags", byref(executable), graph, 0)
        self._call("cudaGraphDestroy", graph)
        return executable

    def launch(self, executable: c_void_p) -> None:
        """Launch a captured graph."""
        self._call("cudaGraphLaunch", executable, self.stream)

    def destroy(self, executable: c_void_p) -> None:
        """Give a captured graph back."""
        self._call("cudaGraphExecDestroy", executable)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            reason = self._library.cudaGetErrorString(code).decode(errors="replace")
            if name in _NEED_ROOM:
                raise TargetUnavailableError(
                    f"{name} failed with CUDA error {code}: {reason}. Is the device out of "
                    "memory, or its driver older than libcudart?"
                )
            if "Capture" in name or name == "cudaGraphInstantiateWithFlags":
                raise BundleError(
                    f"{name} failed with CUDA error {code}: {reason}. This engine cannot be "
                    "launched as one graph: leave --cuda-graph out."
                )
            raise BundleError(
                f"{name} failed with CUDA error {code}: {reason}. The engine is at fault: do "
                "not use it. Rebuild it on this device."
            )


def _load() -> Any:
    for name in (*_NAMES, *_beside_python()):
        with suppress(OSError):
            return ctypes.CDLL(name)
    raise TargetUnavailableError(
        "libcudart, the CUDA runtime, was not found. Install CUDA, or the package "
        "nvidia-cuda-runtime, or add its folder to LD_LIBRARY_PATH."
    )


def _beside_python() -> Iterator[str]:
    """Where CUDA's own Python packages and installers put the library."""
    folders = [os.path.join(path, "nvidia", "*", "lib") for path in sys.path]
    folders.append("/usr/local/cuda/lib64")
    for folder in folders:
        yield from sorted(glob.glob(os.path.join(folder, "libcudart.so*")), reverse=True)
