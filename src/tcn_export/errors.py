"""The errors a user can cause or mend; each class carries the exit code of the command line.

A message says what was found, where, what was expected and what to do. Only ``cli`` catches
`ExportError`. A bug of ours is a traceback, never an `ExportError`.
"""

from __future__ import annotations

from typing import ClassVar

PARITY_FAILED = 3
"""Exit code of a command whose artifact ran but lost parity: a verdict, not an exception."""


class ExportError(Exception):
    """The request cannot be carried out; the message says why and what to do."""

    exit_code: ClassVar[int] = 1


class CheckpointError(ExportError):
    """The model file is unreadable, unsafe, incomplete or holds unusable values."""


class FactoryError(ExportError):
    """The user's own factory fails, or makes a network that cannot be exported."""


class DataError(ExportError):
    """The data file is unreadable, or does not fit the model."""


class UnsupportedModelError(ExportError):
    """The network holds something that no stage knows how to export."""


class BundleError(ExportError):
    """A bundle is damaged, incomplete, or was altered after it was written."""


class OutputError(ExportError):
    """The result cannot be written where the user asked."""


class UsageError(ExportError):
    """Options that contradict each other or leave out what the request needs."""

    exit_code = 2


class TargetUnavailableError(ExportError):
    """The target cannot run on this machine."""

    exit_code = 4


class MissingExtraError(TargetUnavailableError):
    """A package that belongs to an optional extra is not installed."""
