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
    import onnx
    from torch import nn

Task = Literal["classification", "regression"]
Layout = Literal["NCL", "NLC"]
"""Axes of a signal: N windows, C channels, L steps."""
Kind = Literal["checkpoint", "factory", "weights", "program", "onnx"]

INPUT = "signal"
OUTPUTS: dict[Task, str] = {"classification": "logits", "regression": "forecast"}
"""Names of input and output, whoever made the network."""
MOST_VALUES = 2**28
"""Of the largest tensor that a stranger's file may make: 1 GiB in float32."""
MOST_ALIVE = 2**29
"""Of all tensors that it may keep at a time, its weights aside: 2 GiB in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the user says of a network that does not say it itself.

    Attributes:
        factory: ``MODULE:NAME`` of what makes it.
        arguments: Keyword arguments of the factory.
        input_shape: Channels and steps of a window.
        layout: Axes of the signal that it takes; None finds them out.
        task: What its outputs mean; None for classification.
        answer: Which of several outputs that is; None for the first.
        length: Steps of the window that is exported, where they differ from ``input_shape``.
        is_dynamic: The length stays symbolic, so the network has to run at any.
    """

    factory: str | None = None
    arguments: Mapping[str, Any] | None = None
    input_shape: tuple[int, int] | None = None
    layout: Layout | None = None
    task: Task | None = None
    answer: str | None = None
    length: int | None = None
    is_dynamic: bool = False

    @property
    def meaning(self) -> Task:
        """What the outputs mean."""
        return self.task or "classification"


@dataclass(frozen=True, slots=True)
class Source:
    """A trained network.

    Attributes:
        name: Names the bundle; the file's stem, or the factory's name.
        path: The file it was read from; None where a factory made it.
        kind: Where it comes from.
        sha256: Hash of that file, and of those that hold its weights; of a factory's network
            of its state dict.
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
        architecture: Name in `models.ARCHITECTURES`, or the factory, ``MODULE:NAME``, or what
            wrote the file.
        config: JSON form of its configuration; of a factory, its arguments.
        training: How it was trained, as `tcn-train` recorded it; else empty.
        notes: What was found out about it that the user should know.
        only_single: Why it cannot be run in float64; "" where it can. The oracle is float32
            then.
        model: The graph that it came as, its batch open; None where PyTorch traces the module.
    """

    name: str
    path: Path | None
    kind: Kind
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
    notes: tuple[str, ...] = ()
    only_single: str = ""
    model: onnx.ModelProto | None = None

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
