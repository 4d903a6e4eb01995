"""Writing files and folders so that a crash leaves the old content or none, never a part."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tcn_export.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows: leftovers stay, since nobody can tell whose they are
    fcntl = None  # type: ignore[assignment]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.tmp")
_SECONDS_TO_BEGIN = 60


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file through a temporary sibling that is renamed when it is complete.

    Raises:
        OutputError: The path cannot be written.
    """
    try:
        _write_whole(path, content)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error


def append_text(path: Path, text: str) -> None:
    """Append to a file that others append to as well: what they wrote stays.

    Raises:
        OutputError: The path cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error


def write_bytes_if_possible(path: Path, content: bytes) -> bool:
    """`write_bytes` for what can be done without; False where the path cannot be written."""
    try:
        _write_whole(path, content)
    except OSError:
        return False
    return True


def write_folder(path: Path, files: dict[str, bytes], replace: bool) -> None:
    """Write a folder of files whole.

    The files go to a hidden sibling first. Where the system can exchange two names at once
    (Linux), there is no moment without a folder at ``path``; elsewhere the old one is moved
    aside first.

    Args:
        path: The folder.
        files: Content by name.
        replace: Replace an old folder of that name in one step.

    Raises:
        OutputError: The folder cannot be written, or there is one that may not be replaced.
    """
    path = path.resolve()  # behind a link lies what is replaced
    temporary = _sibling(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        temporary.mkdir()
        with _claimed(temporary):
            for name, content in files.items():
                _write_synced(temporary / name, content)
            if replace and os.path.lexists(path):
                _replace(temporary, path)
            else:
                temporary.rename(path)  # fails where a folder with content has come meanwhile
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(path: Path, overwrite: bool) -> None:
    """Raise `OutputError` where a file lies at ``path`` that may not be replaced."""
    if os.path.lexists(path) and not overwrite:
        raise OutputError(
            f"{path} already exists. Replace it with --overwrite, or choose another path."
        )


def check_writable(folder: Path) -> None:
    """Raise `OutputError` where nothing can be created in ``folder``, before work is spent.

    Leaves nothing behind: of a folder that does not exist yet its nearest parent is asked.
    """
    existing = next((p for p in (folder, *folder.parents) if os.path.lexists(p)), Path())
    probe = existing / f".{secrets.token_hex(4)}.probe"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"the output folder {folder} cannot be written: {error.strerror}. Name another."
        ) from error


def _sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _write_whole(path: Path, content: bytes) -> None:
    temporary = _sibling(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(temporary, content)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(temporary: Path, path: Path) -> None:
    if _exchange(temporary, path):
        return
    aside = _sibling(path).with_suffix(".old")  # no leftover: it may be needed back
    path.rename(aside)
    try:
        temporary.rename(path)
    except OSError:
        aside.rename(path)
        raise
    aside.rename(temporary)  # so that the caller removes it


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names atomically (renameat2, Linux 3.15); False where that is not supported."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if renameat2 is None:
        return False
    names = (os.fsencode(one), os.fsencode(other))
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Hold a lock on ``folder`` that ends with this process, however it ends."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_leftovers(path: Path) -> None:
    """Remove what exports that were killed left beside ``path``."""
    for candidate in (
        path.parent.glob(f".{glob.escape(path.name)}.*.tmp") if fcntl is not None else ()
    ):
        if _TEMPORARY.fullmatch(candidate.name.removeprefix(f".{path.name}")):
            with contextlib.suppress(OSError):
                if _is_abandoned(candidate):
                    shutil.rmtree(candidate, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """Whether nobody holds the lock on ``folder`` and nobody is just about to."""
    young = time.time() - folder.stat().st_mtime < _SECONDS_TO_BEGIN
    if young and not any(folder.iterdir()):
        return False
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
