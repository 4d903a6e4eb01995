"""`Source`: the eager module that is the oracle, and everything known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tcn_export.graph import Signature

if TYPE_CHECKING:
    from torch import nn

Task = Literal["classification", "regression"]

INPUT = "signal"
OUTPUTS: dict[Task, str] = {"classification": "logits", "regression": "forecast"}
"""Names of input and output, whoever made the network."""


@dataclass(frozen=True, slots=True)
class Source:
    """A trained network.

    Attributes:
        name: Names the bundle; the file's stem, or the factory's name.
        path: The file it was read from; None where a factory made it.
        kind: Where it comes from.
        sha256: Hash of that file; of a factory's network, of its state dict.
        module: The eager module in eval mode. It is the oracle: no stage changes it.
        signature: Inputs and outputs, with a symbolic batch and length.
        length: Steps of the windows it was trained on, or that a factory's user told.
        task: What its outputs mean.
        classes: Class names in the order of the outputs, numbers where nobody named them;
            empty for regression.
        sample_rate_hz: Of the signal, where known.
        center: Mean of each input channel in the training data, (channels,); zeros where it
            is not known.
        spread: Deviation of each input channel in the training data, (channels,); ones where
            it is not known.
        architecture: Name in `models.ARCHITECTURES`, or the factory, ``MODULE:NAME``.
        config: JSON form of its configuration; of a factory, its arguments.
        training: How it was trained, as `tcn-train` recorded it; else empty.
    """

    name: str
    path: Path | None
    kind: Literal["checkpoint", "factory"]
    sha256: str
    module: nn.Module
    signature: Signature
    length: int
    task: Task
    classes: tuple[str, ...]
    sample_rate_hz: float | None
    center: NDArray[np.float64]
    spread: NDArray[np.float64]
    architecture: str
    config: Mapping[str, Any]
    training: Mapping[str, Any]

    @property
    def origin(self) -> str:
        """What messages call it: its path, or its factory."""
        return str(self.path) if self.path is not None else self.architecture

    @property
    def channels(self) -> int:
        """Channels of the signal."""
        return len(self.center)

    @property
    def parameters(self) -> int:
        """Trained values of the network."""
        return sum(p.numel() for p in self.module.parameters())
