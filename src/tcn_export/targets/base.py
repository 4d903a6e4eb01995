"""What every target gives: an artifact, and a runner that computes with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from tcn_export.data import Array
from tcn_export.errors import DataError
from tcn_export.graph import Graph, Signature

Precision = Literal["float32", "float16", "int8"]
Mode = Literal["window", "stream"]
"""Whole windows, or one hop of a stream at a time with states."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """What an export made: the files of a model for one target at one precision.

    ``model`` names the file among ``files`` that the runtime loads; ``settings`` is what the
    runtime has to be told beside it, in JSON types.
    """

    target: str
    precision: Precision
    mode: Mode
    model: str
    files: Mapping[str, bytes]
    signature: Signature
    settings: Mapping[str, Any] = field(default_factory=dict)


class Runner(Protocol):
    """Computes outputs from inputs; knows nothing of where the artifact came from.

    States (`Signature.states`) are neither fed nor returned: the runner carries them.
    """

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Compute all outputs, by name, and carry the states.

        Raises:
            DataError: An input is missing, surplus, or of the wrong dtype or shape.
        """

    def reset(self) -> None:
        """Forget the states: the next call begins with zeros."""


@runtime_checkable
class Stepper(Protocol):
    """Runs one hop of a stream at a time, and shows its states."""

    def reset(self) -> None:
        """Forget the states."""

    def prepare(self, streams: int) -> None:
        """Make the buffers for so many streams."""

    def step(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Compute one hop without checks; its answers are overwritten by the next one."""

    def states(self) -> dict[str, Array]:
        """A copy of the states, by name of the input that they are."""

    def restore(self, states: Mapping[str, Array]) -> None:
        """Go on from states that were saved."""


class Target(Protocol):
    """What the module of a target offers."""

    def check_available(self) -> None:
        """Tell, before any work is spent, whether artifacts can run on this machine.

        Raises:
            TargetUnavailableError: They cannot; the message says what it needs.
        """

    def build(
        self,
        graph: Graph,
        precision: Precision,
        settings: Mapping[str, Any] | None = None,
        mode: Mode = "window",
    ) -> Artifact:
        """Make the artifact of a finished graph; ``settings`` become those of the artifact."""

    def runner(self, artifact: Artifact, threads: int = 0) -> Runner:
        """Make a runner for an artifact; 0 threads takes all cores.

        Raises:
            BundleError: The runtime refuses the model.
            TargetUnavailableError: The runtime cannot run on this machine.
        """


def check_feeds(signature: Signature, feeds: Mapping[str, Array]) -> None:
    """Raise `DataError` unless ``feeds`` are exactly what ``signature`` asks for."""
    expected = {spec.name: spec for spec in signature.inputs}
    if set(feeds) != set(expected):
        raise DataError(
            f"the inputs are {', '.join(sorted(feeds)) or 'none'}; "
            f"the model takes {', '.join(sorted(expected))}."
        )
    for name, spec in expected.items():
        array = feeds[name]
        if not isinstance(array, np.ndarray):
            raise DataError(
                f"the input `{name}` is a {type(array).__name__}; give a numpy array."
            )
        if array.dtype != np.dtype(spec.dtype):
            raise DataError(
                f"the input `{name}` is {array.dtype}; the model takes {spec.dtype}."
            )
        if not spec.accepts(array.shape):
            raise DataError(
                f"the input `{name}` has the shape {array.shape}; the model takes "
                f"({', '.join(map(str, spec.shape))})."
            )


def symbol_sizes(signature: Signature, feeds: Mapping[str, Array]) -> dict[str, int]:
    """The size of every symbol, such as the batch.

    Raises:
        DataError: One symbol has two sizes.
    """
    sizes: dict[str, int] = {}
    for spec in signature.inputs:
        for symbol, size in zip(spec.shape, feeds[spec.name].shape, strict=True):
            if isinstance(symbol, str) and sizes.setdefault(symbol, size) != size:
                raise DataError(
                    f"the inputs disagree on `{symbol}`: {sizes[symbol]} and {size} "
                    f"(in `{spec.name}`)."
                )
    return sizes
