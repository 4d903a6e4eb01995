"""How a long stage tells the outside how far it is, without knowing who listens."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Advance(Protocol):
    """Reports that some more units of the current stage are done."""

    def __call__(self, units: int = 1, /) -> None:
        """Add ``units`` to what is done."""


class Progress(Protocol):
    """Announces stages; the command line draws them, a library user may pass his own."""

    def stage(self, title: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Begin a stage of ``total`` units (None where the amount is not known)."""


class Silent:
    """Progress that nobody watches."""

    def stage(self, title: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Do nothing, and report to nobody."""
        del title, total
        return nullcontext(ignore)


def ignore(units: int = 1, /) -> None:
    """Stand for `Advance` where nobody watches."""
    del units
