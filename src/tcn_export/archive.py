"""Reading an npz archive from a stranger: plain arrays or one kind of error, no pickles.

Part of ``build_engine.py``: Python 3.8, numpy and the standard library only.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ArchiveError(ValueError):
    """The archive cannot be read; the message is the reason."""


class ObjectArrayError(ArchiveError):
    """The archive holds Python objects."""


def read_arrays(file: BinaryIO, without_prefix: str | None = None) -> dict[str, NDArray[Any]]:
    """Read all arrays of an npz archive, by name.

    Args:
        file: The open archive.
        without_prefix: Leave out the arrays whose name begins so.

    Raises:
        ArchiveError: It is no such archive, is damaged, or holds Python objects.
    """
    _check_magic(file)
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {
                name: archive[name]
                for name in archive.files
                if without_prefix is None or not name.startswith(without_prefix)
            }
    except ValueError as error:
        if "Object arrays" in str(error):
            raise ObjectArrayError("it holds Python objects") from error
        raise ArchiveError(str(error)) from error
    except MemoryError as error:
        raise ArchiveError(f"an array is larger than the memory: {error}") from error
    # What zipfile and numpy raise for damaged archives is not documented; fuzzing met these.
    except (
        OSError,
        EOFError,
        KeyError,
        TypeError,
        SyntaxError,
        RuntimeError,
        OverflowError,
        AttributeError,
        IndexError,
        lzma.LZMAError,
        struct.error,
        tokenize.TokenError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ArchiveError(f"{type(error).__name__}: {error}") from error

    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ArchiveError(f"its part {name} is no array")
    return arrays


def _check_magic(file: BinaryIO) -> None:
    """Refuse by its first bytes what is no zip archive; numpy would take it for a pickle."""
    magic = file.read(6)
    file.seek(0)
    if magic == b"\x93NUMPY":
        raise ArchiveError("it is a single .npy array")
    if not magic.startswith(b"PK"):
        raise ArchiveError("it is no zip archive")
