"""Reading a ``.pt2`` archive from a stranger: JSON and raw numbers, never code.

`torch.export.load` is not asked: it unpickles parts of the archive, evaluates its shape
expressions as Python, takes any function of ``torch`` by name, and loads its libraries.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tcn_export.errors import CheckpointError
from tcn_export.source.safe_load import read_file

DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
"""PyTorch's numbers for them in such a file."""
SCHEMA = 8
_MODEL = re.compile(r"models/([\w.-]+)\.json")
_AGAIN = "Save it again with torch.export.save, by PyTorch 2.9 or newer."
_BROKEN = (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError)


class Archive:
    """The parts of a ``.pt2`` archive.

    Args:
        path: The file.

    Raises:
        CheckpointError: It is no such archive, is damaged, or holds what could run code.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        raw = read_file(path)
        self.sha256 = hashlib.sha256(raw).hexdigest()
        self._parts = _parts(path, raw)
        models = [m[1] for name in self._parts if (m := _MODEL.fullmatch(name))]
        if len(models) != 1:
            raise CheckpointError(
                f"{path} holds {len(models)} programs ({', '.join(models) or 'none'}); "
                f"expected one. {_AGAIN}"
            )
        self._name = models[0]
        for name in self._parts:
            if name.startswith("data/aotinductor/"):
                raise CheckpointError(
                    f"{path} holds compiled code ({name}), which was not loaded. Expected a "
                    f"program of torch.export. {_AGAIN}"
                )

    def program(self) -> dict[str, Any]:
        """What the program says of itself, in JSON types."""
        told: dict[str, Any] = self._json(f"models/{self._name}.json")
        with broken(self.path):
            major = told["schema_version"]["major"]
        if major != SCHEMA:
            raise CheckpointError(
                f"{self.path} has the schema {major!r}; this version reads {SCHEMA}. {_AGAIN}"
            )
        return told

    def tensors(self) -> dict[str, Tensor]:
        """Weights and constants, by their path in the module."""
        found: dict[str, Tensor] = {}
        for folder, kind in (("weights", "weights"), ("constants", "constants")):
            config = self._json(f"data/{folder}/{self._name}_{kind}_config.json")
            with broken(self.path):
                entries = dict(config["config"])
            for name, entry in entries.items():
                found[name] = self._tensor(f"data/{folder}/", name, entry)
        return found

    def _tensor(self, folder: str, name: str, entry: Mapping[str, Any]) -> Tensor:
        with broken(self.path):
            meta, part = entry["tensor_meta"], f"{folder}{entry['path_name']}"
            if entry["use_pickle"] or meta is None:
                raise CheckpointError(
                    f"`{name}` in {self.path} is no plain tensor but pickled, which could run "
                    "code, so it was not loaded. Keep tensors of PyTorch's own in the network."
                )
            dtype, raw = DTYPES[meta["dtype"]], self._parts[part]
            sizes, strides = (
                [integer(n["as_int"]) for n in meta[key]] for key in ("sizes", "strides")
            )
            offset = integer(meta["storage_offset"]["as_int"])
            values = 1
            for n in sizes:
                values *= n
            # A stride of 0 would make many weights of one.
            if min([*sizes, offset, 0]) < 0 or values * dtype.itemsize > len(raw):
                raise ValueError(f"{values} values in {len(raw)} bytes")
        if not values:
            return torch.zeros(sizes, dtype=dtype)
        flat = torch.frombuffer(
            bytearray(raw[: len(raw) // dtype.itemsize * dtype.itemsize]), dtype=dtype
        )
        try:
            return torch.as_strided(flat, sizes, strides, offset).clone()
        except RuntimeError as error:
            raise CheckpointError(
                f"`{name}` in {self.path} reaches beyond its values. Copy the file again."
            ) from error

    def _json(self, part: str) -> Any:
        if part not in self._parts:
            raise CheckpointError(f"{self.path} lacks its part {part}. {_AGAIN}")
        with broken(self.path):
            return json.loads(self._parts[part])


class broken:  # noqa: N801 - reads as a clause
    """Turns what a file of another form makes Python raise into a `CheckpointError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, _BROKEN):
            raise CheckpointError(
                f"{self.path} is damaged, or was written by a PyTorch that this version does "
                f"not know ({type(error).__name__}: {str(error)[:100]}). {_AGAIN}"
            ) from error


def integer(value: object) -> int:
    """A whole number; raises `TypeError` for anything else that JSON has."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{str(value)[:40]} is no whole number")
    return value


def _parts(path: Path, raw: bytes) -> dict[str, bytes]:
    """The members of the archive without the folder that holds them all."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > len(raw):
                raise CheckpointError(
                    f"{path} would unpack to more than the {len(raw):,} bytes it has; PyTorch "
                    "never compresses. It is damaged or forged: export the program again."
                )
            names = {member.filename for member in members}
            if "version" in names or "serialized_exported_program.json" in names:
                raise CheckpointError(
                    f"{path} was written by a PyTorch older than 2.8. Load it there and "
                    f"{_AGAIN[0].lower()}{_AGAIN[1:]}"
                )
            return dict(_read(archive, members))
    except (
        zipfile.BadZipFile, zlib.error, ValueError, OSError, RuntimeError, EOFError,
        NotImplementedError,
    ) as error:  # fmt: skip
        raise CheckpointError(
            f"{path} is no .pt2 archive of torch.export.save, or was cut short ({error}). "
            "Copy it again."
        ) from error


def _read(
    archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]
) -> Iterator[tuple[str, bytes]]:
    for member in members:
        yield member.filename.partition("/")[2], archive.read(member)  # checks its checksum
