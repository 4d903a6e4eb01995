"""What was measured on windows once, kept in the user's cache folder for the next export.

Entries are JSON files named after a hash of all that they depend on. They speed an export up
and are never needed: one that is missing, damaged or not of the right form is measured anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcn_export.files import write_bytes_if_possible
from tcn_export.structure import Form, check

VARIABLE = "TCN_EXPORT_CACHE"
"""Environment variable that names another folder; empty or ``off``: nothing is kept."""

_MOST_BYTES = 256 * 1024 * 1024
"""A larger entry is none of ours: a histogram takes 30 kB at most."""


@dataclass(frozen=True, slots=True)
class Cache:
    """Entries in one folder; ``folder`` None keeps nothing and knows nothing."""

    folder: Path | None

    @classmethod
    def of_user(cls) -> Cache:
        """The cache that the environment asks for."""
        wanted = os.environ.get(VARIABLE)
        if wanted is not None:
            return cls(None if wanted in {"", "off"} else Path(wanted) / "calibration")
        base = os.environ.get("XDG_CACHE_HOME")
        try:
            home = Path(base) if base else Path.home() / ".cache"
        except RuntimeError:  # a user without a home folder
            return cls(None)
        return cls(home / "tcn-export" / "calibration")

    def read(self, key: str, form: Form) -> Any:
        """The entry of a key, or None where there is none that has the form.

        Args:
            key: From `key_of`.
            form: See `structure`.
        """
        if self.folder is None:
            return None
        path = self.folder / f"{key}.json"
        try:
            if path.stat().st_size > _MOST_BYTES:
                return None
            entry = json.loads(path.read_text(encoding="utf-8"))
            check(entry, form, path.name)
        except (OSError, ValueError, RecursionError):  # JSON nested without end
            return None
        return entry

    def write(self, key: str, entry: Any) -> None:
        """Keep an entry, where the folder can be written."""
        if self.folder is not None:
            content = json.dumps(entry, allow_nan=False, separators=(",", ":"))
            write_bytes_if_possible(self.folder / f"{key}.json", content.encode())


NOWHERE = Cache(None)
"""Keeps nothing."""


def key_of(*parts: bytes | memoryview) -> str:
    """A hash over parts, each with its length: no two lists of parts have one text."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
