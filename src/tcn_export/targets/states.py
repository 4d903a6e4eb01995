"""States that a runner carries from call to call: zeros at first, then what came out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tcn_export.data import Array
from tcn_export.errors import BundleError, DataError
from tcn_export.graph import StatePair

_MOST = 2**62
"""Steps that a count may have reached; a million years of any signal."""


def resolve_shape(state: StatePair, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a state, its symbols taken from the inputs of the same call.

    Raises:
        BundleError: A symbol is in no input.
    """
    try:
        return tuple(n if isinstance(n, int) else sizes[n] for n in state.shape)
    except KeyError as error:
        raise BundleError(
            f"the state `{state.input}` has the dimension {error}, which no input has. The "
            "model was altered; export it again."
        ) from error


class CarriedStates:
    """The states of one stream in the host's memory.

    Args:
        pairs: Which output of a call is which input of the next.
    """

    def __init__(self, pairs: tuple[StatePair, ...]) -> None:
        self._pairs = pairs
        self._values: dict[str, Array] = {}

    def reset(self) -> None:
        """Begin again: the next call sees zeros, as before the first sample."""
        self._values = {}

    def inputs(self, sizes: Mapping[str, int]) -> dict[str, Array]:
        """The state inputs of the next call.

        Args:
            sizes: Of every symbol in the inputs of that call.

        Raises:
            DataError: The states carried so far belong to another number of streams.
        """
        shapes = {pair.input: resolve_shape(pair, sizes) for pair in self._pairs}
        if not self._values:
            return {
                pair.input: np.zeros(shapes[pair.input], pair.dtype) for pair in self._pairs
            }
        check_same_streams(shapes, {name: v.shape for name, v in self._values.items()})
        return self._values

    def carry(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Keep the state outputs of a call for the next one; the other outputs."""
        self._values = {pair.input: outputs[pair.output] for pair in self._pairs}
        names = {pair.output for pair in self._pairs}
        return {name: value for name, value in outputs.items() if name not in names}


def check_same_streams(
    asked: Mapping[str, tuple[int, ...]], carried: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise `DataError` where a call asks for other states than the runner carries."""
    for name, shape in asked.items():
        if shape != carried[name]:
            raise DataError(
                f"the runner carries the state `{name}` of the shape {carried[name]}, but "
                f"this call needs {shape}. Feed as many streams as before, or call reset()."
            )


def check_restored(wanted: Mapping[str, Array], given: Mapping[str, Array]) -> None:
    """Raise `DataError` where saved states are not those of this model and batch."""
    if set(wanted) != set(given):
        raise DataError(
            f"the saved states are {', '.join(sorted(given)) or 'none'}; this model carries "
            f"{', '.join(sorted(wanted)) or 'none'}. Save them with the same bundle."
        )
    for name, array in wanted.items():
        if not isinstance(given[name], np.ndarray):
            raise DataError(
                f"the saved state `{name}` is a {type(given[name]).__name__}; expected a "
                "numpy array."
            )
        if given[name].shape != array.shape or given[name].dtype != array.dtype:
            raise DataError(
                f"the saved state `{name}` is {given[name].dtype} of the shape "
                f"{given[name].shape}; this stream carries {array.dtype} of the shape "
                f"{array.shape}. Open as many streams as were saved, with the same bundle."
            )
        if array.dtype == np.int64 and ((given[name] < 0) | (given[name] > _MOST)).any():
            raise DataError(
                f"the saved state `{name}` counts {given[name].ravel()[0]} steps, which no "
                "stream has seen. The file was altered; save the states again."
            )
