"""Reading what ``torch.save`` wrote, from a stranger: plain data and tensors, never code."""

from __future__ import annotations

import io
import pickle  # noqa: TID251 - for the name of the exception that torch.load raises
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tcn_export.errors import CheckpointError

_TO_STATE_DICT = """\
    model = torch.load("model.pt", weights_only=False)  # only if you trust whoever made it
    torch.save(model.state_dict(), "weights.pt")"""


WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Where training scripts keep a state dict within their checkpoint."""
_DEEPEST_WRAPPER = 3
_EXTRA = "_extra_state"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file should hold, in words, and how the user gets a whole one."""

    what: str
    again: str


CHECKPOINT = Wanted("a checkpoint written by tcn-train", "train it again with tcn-train")


def read_file(path: Path) -> bytes:
    """The content of a model file.

    Raises:
        CheckpointError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error


def is_dense(value: Tensor) -> bool:
    """Whether a tensor from a stranger is as large as it looks.

    A stride of 0 would make many weights of one: a small file that fills the memory.
    """
    return value.layout == torch.strided and not value.is_meta and value.is_contiguous()


def find_state_dict(content: object, depth: int = 0) -> dict[str, Any] | None:
    """The state dict in what a file holds: itself, or within a wrapper; None if there is none.

    >>> find_state_dict({"epoch": 3, "model": {"bias": torch.ones(1)}})
    {'bias': tensor([1.])}
    """
    if not isinstance(content, Mapping) or depth > _DEEPEST_WRAPPER:
        return None
    if content and all(
        isinstance(name, str) and (isinstance(value, Tensor) or name.endswith(_EXTRA))
        for name, value in content.items()
    ):
        return dict(content)
    for name in WRAPPERS:
        found = find_state_dict(content.get(name), depth + 1)
        if found is not None:
            return found
    return None


def load_weights_only(path: Path, raw: bytes, wanted: Wanted = CHECKPOINT) -> dict[Any, Any]:
    """Read the dictionary that ``torch.save`` wrote, running no code that came with it.

    Args:
        path: Names the file in messages.
        raw: Its content.
        wanted: What it should hold, for messages.

    Raises:
        CheckpointError: It is no such file, is damaged, or holds more than plain data.
    """
    # torch.load falls back to a bare pickle for anything that is no zip archive; nothing that
    # a current PyTorch writes needs that.
    _check_members(path, raw, wanted)
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
                f"code, so it was not loaded. Expected {wanted.what}; a network of your own "
                "is exported with its weights and --factory MODULE:NAME. These two lines keep "
                "its weights without the code (of a dictionary, save what it holds of them):\n"
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
            f"or {wanted.again}."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}. Expected {wanted.what}."
        )
    return content


def _check_members(path: Path, raw: bytes, wanted: Wanted) -> None:
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
            f"archive. Expected {wanted.what}. If it comes from a PyTorch older than 1.6, "
            "load and save it again with torch.save."
        ) from error
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise CheckpointError(
            f"{path} is a TorchScript program, which holds code. Expected {wanted.what}. Give "
            "the network that was scripted by --factory MODULE:NAME, and its weights as a "
            'state dict: torch.save(model.state_dict(), "weights.pt").'
        )
    if members and all(member.filename.endswith(".npy") for member in members):
        raise CheckpointError(
            f"{path} is a data file (.npz), not a checkpoint. Give it as --data, and as MODEL "
            f"{wanted.what}."
        )
    if damaged is not None:
        raise CheckpointError(
            f"{path} is damaged: the checksum of its part {damaged} is wrong. Copy it again, "
            f"or {wanted.again}."
        )
    if unpacked > len(raw):
        raise CheckpointError(
            f"{path} would unpack to {unpacked:,} bytes, more than the {len(raw):,} it has; "
            f"PyTorch never compresses. It is damaged or forged: {wanted.again}."
        )
