"""A network that tcn-train did not make: the user's own factory builds it.

Its weights come from a file of their own, or from the factory. Nothing is known of such a
network but what running it shows: see `interface`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from tcn_export.errors import FactoryError
from tcn_export.source.base import Layout, Source, Task, Told
from tcn_export.source.interface import Interface, find_interface
from tcn_export.source.probe import Probe, check_keeps, check_weights, state_of
from tcn_export.source.user_code import make_module
from tcn_export.source.weights import load_weights

_IN_DOUBLE = (
    "The float64 copy is what the artifact is compared with: make constants with "
    "`x.new_tensor(...)` or `register_buffer`. "
)


def load_factory(
    factory: str,
    input_shape: tuple[int, int],
    task: Task = "classification",
    arguments: Mapping[str, Any] | None = None,
    length: int | None = None,
    is_dynamic: bool = False,
    weights: Path | None = None,
    layout: Layout | None = None,
    answer: str | None = None,
) -> Source:
    """Let a user's factory make a network, and find out what goes in and what comes out.

    Args:
        factory: ``MODULE:NAME``; the module is looked for in the current folder first.
        input_shape: Channels and steps of a window.
        task: What the outputs mean; nobody but the user knows.
        arguments: Keyword arguments for the factory.
        length: Steps of the window that is exported, where they differ from ``input_shape``.
        is_dynamic: The length will be left symbolic, so the network has to run at any.
        weights: A file with its state dict; None takes the weights that the factory gave it.
        layout: Axes of the signal that it takes; None finds them out.
        answer: Which of several outputs is the answer; None takes the first.

    Returns:
        A source that says nothing of the data: see `export_data.informed`.

    Raises:
        FactoryError: The factory or the network fails, or gives what cannot be exported.
        CheckpointError: The weights cannot be read, or are not those of the network.
    """
    module = make_module(factory, arguments or {})
    digest = load_weights(weights, module, factory) if weights is not None else ""
    module.eval()
    check_weights(factory, module, FactoryError)
    told = Told(
        input_shape=input_shape, layout=layout, task=task, answer=answer, length=length,
        is_dynamic=is_dynamic,
    )  # fmt: skip
    probe = Probe(factory, module, input_shape[0])
    before = state_of(module)
    found = find_interface(probe, told)
    check_keeps(factory, module, before, FactoryError)
    probe = Probe(factory, found.module, input_shape[0])
    probe.check_repeats(found.length)
    probe.check_double(found.length, _IN_DOUBLE)
    check_keeps(factory, module, before, FactoryError)
    return Source(
        name=weights.stem if weights is not None else factory.partition(":")[2],
        path=weights,
        kind="factory" if weights is None else "weights",
        sha256=digest or _digest(module),
        **described(found, input_shape[0], task),
        architecture=factory,
        config=dict(arguments or {}),
        training={},
    )


def described(found: Interface, channels: int, task: Task) -> dict[str, Any]:
    """The fields of a source that says nothing of its data."""
    scores = found.signature.outputs[0].shape[1]
    return {
        "module": found.module.requires_grad_(False),
        "signature": found.signature,
        "length": found.length,
        "task": task,
        "classes": tuple(map(str, range(int(scores)))) if task == "classification" else (),
        "sample_rate_hz": None,
        "center": np.zeros(channels),
        "spread": np.ones(channels),
        "notes": found.notes,
    }


def _digest(module: nn.Module) -> str:
    """A sha256 over names and values of the state dict."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):  # what get_extra_state tells is no weight
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(np.ascontiguousarray(value.detach().numpy()).tobytes())
    return digest.hexdigest()
