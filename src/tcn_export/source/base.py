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


@dataclass(frozen=True, slots=True)
class Source:
    """A trained network.

    Attributes:
        name: Names the bundle; the file's stem.
        path: The file it was read from.
        kind: How it was stored.
        sha256: Hash of that file.
        module: The eager module in eval mode. It is the oracle: no stage changes it.
        signature: Inputs and outputs, with a symbolic batch and length.
        length: Steps of the windows it was trained on.
        task: What its outputs mean.
        classes: Class names in the order of the outputs; empty for regression.
        sample_rate_hz: Of the signal, where known.
        center: Mean of each input channel in the training data, (channels,).
        spread: Deviation of each input channel in the training data, (channels,).
        architecture: Name in `models.ARCHITECTURES`.
        config: JSON form of its configuration.
        training: How it was trained, as `tcn-train` recorded it.
    """

    name: str
    path: Path
    kind: Literal["checkpoint"]
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
    def channels(self) -> int:
        """Channels of the signal."""
        return len(self.center)

    @property
    def parameters(self) -> int:
        """Trained values of the network."""
        return sum(p.numel() for p in self.module.parameters())
