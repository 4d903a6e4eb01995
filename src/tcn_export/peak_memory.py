"""Peak memory of a process that loads a bundle, runs it, and does nothing else.

It is measured in a child process, beside a second child that loads the same runtime and no
bundle: what lies between the two is the bundle's own share. What counts is the most that the
process had in memory at once (peak resident set size): Python, the runtime, the bundle's
files, what the runtime makes of the weights, and the buffers of the run. A GPU's memory is not
in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tcn_export.bundle import Bundle, load_bundle
from tcn_export.data import Array
from tcn_export.errors import BundleError
from tcn_export.targets import load_target

try:
    import resource
except ImportError:  # Windows: nobody is asked there
    resource = None  # type: ignore[assignment]

_CALLS = 3
"""After the second one the runtime plans its buffers anew."""
_STATUS = Path("/proc/self/status")
_PROGRAM = f"""import sys
sys.path[:] = [*filter(None, sys.path), {str(Path(__file__).resolve().parents[1])!r}]
from {__name__} import main
main()
"""
"""Finds this package, and no module that lies in the user's folder."""


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """Bytes of a process that ran a bundle, and of one that only has its runtime."""

    process: int
    runtime: int

    @property
    def own(self) -> int:
        """What the bundle adds to its runtime."""
        return self.process - self.runtime

    def to_json(self) -> dict[str, int]:
        """In bytes."""
        return {
            "process_bytes": self.process,
            "runtime_bytes": self.runtime,
            "own_bytes": self.own,
        }


def measure_peak_memory(
    bundle: Bundle, threads: int, feeds: Mapping[str, Array]
) -> PeakMemory | None:
    """Run a bundle in one child, nothing in another; None where the system does not tell.

    Args:
        bundle: It is loaded anew, from its path.
        threads: Threads of the runtime.
        feeds: What it is run on; the child takes zeros of the same shapes.

    Raises:
        BundleError: The child ended without an answer.
    """
    if resource is None:
        return None
    shapes = {name: [array.dtype.str, array.shape] for name, array in feeds.items()}
    target = bundle.manifest.target
    run = {"bundle": str(bundle.path), "threads": threads, "shapes": shapes}
    return PeakMemory(_ask({"target": target, **run}), _ask_runtime(target))


def peak_bytes() -> int:
    """The most memory that this process has had so far.

    Linux lets a child begin with the ``ru_maxrss`` of its parent, which may be far larger;
    ``VmHWM`` begins anew.
    """
    assert resource is not None
    if _STATUS.is_file():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """The child: read what to do, do it, answer."""
    # Runtimes may print to stdout, where the answer goes.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    load_target(request["target"])
    if "bundle" in request:
        runner = load_bundle(request["bundle"]).stepper(request["threads"])
        feeds = {n: np.zeros(shape, dtype) for n, (dtype, shape) in request["shapes"].items()}
        for _ in range(_CALLS):
            runner.run(feeds)
    json.dump(peak_bytes(), answer)
    answer.close()


@cache
def _ask_runtime(target: str) -> int:
    return _ask({"target": target})


def _ask(request: Mapping[str, Any]) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or not done.stdout:
        last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise BundleError(
            f"the process that measures the memory of {request.get('bundle', 'the runtime')} "
            f"ended with {done.returncode} and said: {last[0]}"
        )
    return int(json.loads(done.stdout))
