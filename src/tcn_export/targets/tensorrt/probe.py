"""Which devices and which TensorRT are here, found without importing any of it.

TensorRT crashes the interpreter, or returns empty objects, where there is no driver; so it is
imported only where this probe found a device, or in a process of its own.

Part of ``build_engine.py``: Python 3.8, standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from tcn_export.targets.cuda_driver import Driver, ask_driver

FULL, RTX = "tensorrt", "tensorrt_rtx"
OLDEST = (10, 3)
"""The oldest TensorRT whose Python interface the engine code uses."""
MODULES = {"auto": (FULL, RTX), "tensorrt": (FULL,), "rtx": (RTX,)}
"""What can be asked for, and the modules that it may be, best first."""
_DISTRIBUTIONS = {
    FULL: re.compile(r"tensorrt(-cu\d+)?"),
    RTX: re.compile(r"tensorrt-rtx(-cu\d+)?"),
}


@dataclass(frozen=True)
class Probe:
    """What was found.

    Attributes:
        driver: What the CUDA driver said.
        libraries: Version of each module that can be imported; "" where it is unknown.
    """

    driver: Driver
    libraries: dict[str, str]

    def runtime(self, wanted: str = "auto") -> str | None:
        """The module to import: full TensorRT before TensorRT for RTX; None if absent.

        One that is too old is taken only where there is no other.
        """
        here = [name for name in MODULES[wanted] if name in self.libraries]
        return next((name for name in here if not self.is_too_old(name)), (*here, None)[0])

    def why_not(self, wanted: str = "auto") -> str | None:
        """Why no engine can be built and run here; None where one can."""
        if not self.driver.devices:
            return "no CUDA device"
        module = self.runtime(wanted)
        if module is None:
            return f"{MODULES[wanted][0]} is not installed"
        if self.is_too_old(module):
            return f"{module} {self.libraries[module]} is too old, 10.3 or newer is needed"
        return None

    def is_too_old(self, module: str) -> bool:
        """Whether a library is known to be older than `OLDEST`."""
        version = self.libraries.get(module, "")
        return module == FULL and version != "" and version_numbers(version) < OLDEST


def version_numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, for comparison.

    >>> version_numbers("10.16.1.11") >= (10, 3)
    True
    """
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(n) for n in match.group().split(".")) if match else (0,)


def probe() -> Probe:
    """Ask the driver for devices, and the installed packages for TensorRT."""
    modules = [name for name in (FULL, RTX) if find_spec(name) is not None]
    return Probe(ask_driver(), {name: _installed_version(name) for name in modules})


def _installed_version(module: str) -> str:
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if _DISTRIBUTIONS[module].fullmatch(name):
            return distribution.version
    return ""
