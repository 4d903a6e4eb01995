"""What may be told of a network that does not say it itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from tcn_export.errors import UsageError
from tcn_export.graph import LONGEST
from tcn_export.source.base import Layout

if TYPE_CHECKING:
    from tcn_export.options import ExportOptions

TASKS = ("classification", "regression")


def check_factory(options: ExportOptions) -> None:
    """Raise `UsageError` where a factory's name cannot be one, or its signal is not told."""
    if options.factory is None:
        return
    module, _, name = options.factory.partition(":")
    if module.endswith(".py") or "/" in module:
        raise UsageError(
            f"the factory {options.factory!r} names a file; expected MODULE:NAME. Start in "
            f"the folder of the file, with {Path(module).stem}:{name or 'NAME'}."
        )
    if not all(part.isidentifier() for side in (module, name) for part in side.split(".")):
        raise UsageError(
            f"the factory {options.factory!r} is not of the form MODULE:NAME, such as "
            "my_models:make_tcn."
        )
    if options.input_shape is None:
        raise UsageError(
            f"which signal does the network of {options.factory} take? Give --input-shape "
            "CHANNELS,LENGTH."
        )


def check_foreign(options: ExportOptions) -> None:
    """Raise `UsageError` where what is told of a foreign network has a wrong form."""
    shape = options.input_shape
    if shape is not None and not (
        isinstance(shape, tuple | list)
        and len(shape) == 2
        and all(type(n) is int and 1 <= n <= LONGEST for n in shape)
    ):
        raise UsageError(
            f"the input shape is {shape!r}; expected channels and length, 1 to {LONGEST:,} "
            "each."
        )
    if options.factory_args is not None and not isinstance(options.factory_args, Mapping):
        raise UsageError(
            f"the factory's arguments are {options.factory_args!r}; expected keyword "
            "arguments by name."
        )
    if options.task not in (None, *TASKS):
        raise UsageError(f"the task {options.task!r} is none of {', '.join(TASKS)}.")
    if options.input_layout not in (None, *get_args(Layout)):
        raise UsageError(
            f"the input layout {options.input_layout!r} is none of "
            f"{', '.join(get_args(Layout))}."
        )
