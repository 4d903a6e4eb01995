"""What every network's configuration shares: the checks of its numbers and its JSON form.

A configuration is a frozen dataclass of plain numbers, strings and tuples. It may come from a
hostile checkpoint, so every field is checked before anything is built from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, ClassVar, Protocol, TypeVar

LARGEST = 65_536
"""No channel count, kernel, dilation or stride of a network for an edge device is larger."""
MOST_LAYERS = 128


class Config(Protocol):
    """Any of the configuration dataclasses."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


ConfigT = TypeVar("ConfigT", bound=Config)


def to_json(config: Config) -> dict[str, Any]:
    """The configuration as JSON types; `from_json` reads it back equal."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}


def from_json(kind: type[ConfigT], entries: Mapping[str, Any]) -> ConfigT:
    """Build a configuration from JSON types.

    Raises:
        ValueError: Unknown or missing fields, or a value out of its range.
    """
    known = {field.name for field in fields(kind)}
    if set(entries) != known:
        raise ValueError(
            f"the configuration of a {kind.__name__.removesuffix('Config')} has the fields "
            f"{', '.join(sorted(known))}; found {', '.join(sorted(map(str, entries)))}"
        )
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in entries.items()})


def check_sizes(**sizes: object) -> None:
    """Raise `ValueError` unless every value is an integer from 1 to `LARGEST`."""
    for name, value in sizes.items():
        if type(value) is not int or not 1 <= value <= LARGEST:
            raise ValueError(f"`{name}` (={value}) must be an integer from 1 to {LARGEST}")


def check_size_tuples(**tuples: object) -> None:
    """Raise `ValueError` unless every value is a tuple of 1 to `MOST_LAYERS` sizes."""
    for name, value in tuples.items():
        if not isinstance(value, tuple) or not 1 <= len(value) <= MOST_LAYERS:
            raise ValueError(f"`{name}` (={value}) must hold 1 to {MOST_LAYERS} integers")
        check_sizes(**{f"{name}[{i}]": size for i, size in enumerate(value)})


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise `ValueError` unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` (={value!r}) must be one of {', '.join(choices)}")


def check_dropout(value: object) -> None:
    """Raise `ValueError` unless ``value`` is a probability below 1."""
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"`dropout` (={value}) must be a number from 0 to below 1")
