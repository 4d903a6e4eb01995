"""What NVIDIA's code logs, kept: its reasons are in there and nowhere else.

Part of ``build_engine.py``: Python 3.8, standard library only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tcn_export.errors import TargetUnavailableError

_LAST_REMARKS = 12
_BINDING = "Int64 binding"
"""Of a counter among the states: `EngineRunner` takes every type from the engine."""


class Journal:
    """What a user has to hear, and the list of layers that a builder prints.

    Attributes:
        remarks: Warnings and errors, in order.
        layers: The builder's own account of the layers it chose; "" where it gave none.
    """

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self.layers = ""

    def problems(self) -> str:
        """The last remarks; or that there are none."""
        return "; ".join(self.remarks[-_LAST_REMARKS:]) or "it gave no reason"


def make_logger(trt: Any, journal: Journal) -> Any:
    """A logger for a builder or a runtime of the imported module ``trt``."""
    severity = trt.ILogger.Severity

    class Logger(trt.ILogger):  # type: ignore[misc]  # known at run time only
        """Writes into the journal."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, level: Any, message: str) -> None:
            """Called by NVIDIA's code, from any thread."""
            if level in (severity.INTERNAL_ERROR, severity.ERROR, severity.WARNING):
                if not message.rstrip(".").endswith(_BINDING):
                    journal.remarks.append(message)
            elif message.startswith("Layers:\n"):
                journal.layers = message

    return Logger()


def created(trt: Any, factory: Callable[[], Any], journal: Journal) -> Any:
    """What a factory of the module ``trt`` makes.

    Raises:
        TargetUnavailableError: The library gives nothing: its driver or its device is missing,
            or not supported.
    """
    try:
        return factory()
    except TypeError as error:
        if "nullptr" not in str(error):  # the bindings' words where the library gives null
            raise
        raise TargetUnavailableError(
            f"{trt.__name__} {trt.__version__} cannot work here: {journal.problems()}"
        ) from error
