"""Reading what ``torch.save`` wrote, from a stranger: plain data and tensors, never code."""

from __future__ import annotations

import io
import pickle  # noqa: TID251 - for the name of the exception that torch.load raises
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from tcn_export.errors import CheckpointError

_TO_STATE_DICT = """\
    model = torch.load("model.pt", weights_only=False)  # only if you trust whoever made it
    torch.save(model.state_dict(), "weights.pt")"""


def load_weights_only(path: Path, raw: bytes) -> dict[Any, Any]:
    """Read the dictionary that ``torch.save`` wrote, running no code that came with it.

    Args:
        path: Names the file in messages.
        raw: Its content.

    Raises:
        CheckpointError: It is no such file, is damaged, or holds more than plain data.
    """
    # torch.load falls back to a bare pickle for anything that is no zip archive; nothing that
    # a current PyTorch writes needs that.
    _check_members(path, raw)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they speak of what only a damaged file holds
            content = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if any(
            word in str(error)
            for word in ("Unsupported global", "Unsupported class", "GLOBAL")
        ):
            raise CheckpointError(
                f"{path} holds a pickled module or other Python objects. Loading it could run "
                "code, so it was not loaded. Expected a checkpoint written by tcn-train; "
                "a network of your own is exported with --factory MODULE:NAME. These two "
                "lines keep its weights without the code, for the factory to load:\n"
                + _TO_STATE_DICT
            ) from error
        raise CheckpointError(f"{path} is damaged: {error}") from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        AssertionError,
        OverflowError,
        MemoryError,
        zipfile.BadZipFile,
    ) as error:
        # What the reader raises on a forged or damaged archive is not documented; these are
        # the kinds that fuzzing met.
        raise CheckpointError(
            f"{path} is damaged and cannot be read ({type(error).__name__}). Copy it again, "
            "or train it again with tcn-train."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}. Expected a checkpoint written by "
            "tcn-train."
        )
    return content


def _check_members(path: Path, raw: bytes) -> None:
    """Look at the names and sizes in the archive before anything is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            damaged = archive.testzip() if unpacked <= len(raw) else None
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        OSError,
        RuntimeError,
        EOFError,
    ) as error:
        raise CheckpointError(
            f"{path} is not a PyTorch checkpoint, or was cut short: it is not a complete zip "
            "archive. Expected a file written by tcn-train. If it comes from a PyTorch older "
            "than 1.6, load and save it again with torch.save."
        ) from error
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise CheckpointError(
            f"{path} is a TorchScript program, which holds code. Expected a checkpoint "
            "written by tcn-train."
        )
    if members and all(member.filename.endswith(".npy") for member in members):
        raise CheckpointError(
            f"{path} is a data file (.npz), not a checkpoint. Give it as --data, and a file "
            "written by tcn-train as MODEL."
        )
    if damaged is not None:
        raise CheckpointError(
            f"{path} is damaged: the checksum of its part {damaged} is wrong. Copy it again, "
            "or train it again with tcn-train."
        )
    if unpacked > len(raw):
        raise CheckpointError(
            f"{path} would unpack to {unpacked:,} bytes, more than the {len(raw):,} it has; "
            "PyTorch never compresses. It is damaged or forged: train it again with tcn-train."
        )
