"""Writing files and folders so that a crash leaves the old content or none, never a part."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tcn_export.errors import OutputError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file through a temporary sibling that is renamed when it is complete.

    Raises:
        OutputError: The path cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(temporary, content)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error


def write_folder(path: Path, files: dict[str, bytes]) -> None:
    """Write a folder of files whole; an old folder of that name is replaced in one step.

    The files go to a hidden sibling first. Where the system can exchange two names at once
    (Linux), there is no moment without a folder at ``path``; elsewhere the old one is moved
    aside first.

    Raises:
        OutputError: The folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        temporary.mkdir()
        for name, content in files.items():
            _write_synced(temporary / name, content)
        _take_place(temporary, path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    shutil.rmtree(temporary, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """Raise `OutputError` where nothing can be created in ``folder``, before work is spent."""
    probe = folder / f".{os.getpid()}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"the output folder {folder} cannot be written: {error.strerror}. Name another "
            "one with --out."
        ) from error


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _take_place(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.rename(path)
    elif not _exchange(temporary, path):
        aside = path.with_name(f".{path.name}.{os.getpid()}.old.tmp")
        path.rename(aside)
        temporary.rename(path)
        aside.rename(temporary)  # so that the caller removes it


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names atomically (renameat2, Linux 3.15); False where that is not supported."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if renameat2 is None:
        return False
    names = (os.fsencode(one), os.fsencode(other))
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def _remove_leftovers(path: Path) -> None:
    """Remove what exports that were killed left beside ``path``."""
    for leftover in _leftovers(path):
        shutil.rmtree(leftover, ignore_errors=True)


def _leftovers(path: Path) -> Iterator[Path]:
    prefix = f".{path.name}."
    for candidate in path.parent.iterdir():
        if candidate.name.startswith(prefix) and candidate.name.endswith(".tmp"):
            pid = candidate.name.removeprefix(prefix).split(".", 1)[0]
            if pid.isdigit() and not _is_another(int(pid)):
                yield candidate


def _is_another(pid: int) -> bool:
    """Whether ``pid`` is another process that still runs."""
    if os.name != "posix":
        return True  # asking there would interrupt it; leave its files alone
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()
