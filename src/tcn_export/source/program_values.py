"""The arguments and outputs of a program's operators, out of the JSON of its archive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tcn_export.errors import UnsupportedModelError
from tcn_export.source.program_module import Ref
from tcn_export.source.program_reading import DTYPES

_STRIDED = 7
_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
_FLOATS = {"Infinity", "-Infinity", "NaN"}
_ANOTHER_WAY = (
    "Leave control flow and modes out of forward (torch.no_grad among them), or export the "
    "network with its weights and --factory."
)


def read_output(entry: Mapping[str, Any]) -> str | list[str] | None:
    """The name of what an operator gives; several for a list of tensors."""
    ((form, value),) = entry.items()
    if form == "as_tensor":
        return str(value["name"])
    if form == "as_tensors":
        return [str(one["name"]) for one in value]
    if form == "as_none":
        return None
    return str(value["as_name"])


def read_argument(path: Path, entry: Mapping[str, Any]) -> Any:
    """An argument of an operator; what is computed becomes a `Ref`.

    Raises:
        UnsupportedModelError: It is of a kind that no operator of a network needs.
    """
    ((form, value),) = entry.items()
    plain = {"int": int, "bool": bool, "string": str}
    kind = form.removeprefix("as_")
    if kind in plain:
        return _checked(value, plain[kind])
    if kind in ("ints", "bools"):
        return [_checked(one, plain[kind[:-1]]) for one in value]
    if kind in ("float", "floats"):
        values = [_float(one) for one in (value if kind == "floats" else [value])]
        return values if kind == "floats" else values[0]
    if kind == "none":
        return None
    if kind in ("tensor", "tensors"):
        refs = [Ref(str(one["name"])) for one in (value if kind == "tensors" else [value])]
        return refs if kind == "tensors" else refs[0]
    if kind in ("optional_tensor", "sym_int", "sym_float", "sym_bool"):
        return _one(path, value)
    if kind in ("optional_tensors", "sym_ints", "sym_floats", "sym_bools"):
        return [_one(path, one) for one in value]
    if kind == "scalar_type":
        return DTYPES[value]
    if kind == "memory_format":
        return _FORMATS[value]
    if kind == "layout" and value == _STRIDED:
        return torch.strided
    if kind == "device":
        return torch.device("cpu")  # wherever it was exported
    raise UnsupportedModelError(
        f"{path} gives an operator a {kind.replace('_', ' ')}, which is not taken from a "
        f"program. {_ANOTHER_WAY}"
    )


def _one(path: Path, value: Mapping[str, Any]) -> Any:
    """A number or tensor that may be left out, or be computed."""
    if "as_name" in value:
        return Ref(str(value["as_name"]))
    return read_argument(path, value)


def _checked(value: object, kind: type) -> object:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{str(value)[:40]!r} is no {kind.__name__}")
    return value


def _float(value: object) -> float:
    if isinstance(value, str) and value not in _FLOATS:
        raise TypeError(f"{value[:40]!r} is no number")
    return float(value)  # type: ignore[arg-type]
