"""A network that tcn-train did not make: the user's own factory builds it, weights and all.

Nothing is known of such a network but what running it shows. It is run on seeded noise at
several batches and lengths; which axes of its answer follow the batch and the length is read
off the shapes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from tcn_export.errors import FactoryError
from tcn_export.graph import BATCH, LENGTH, Dimension, Signature, TensorSpec
from tcn_export.source.base import INPUT, OUTPUTS, Source, Task
from tcn_export.source.probe import Probe, check_weights
from tcn_export.source.user_code import make_module


def load_factory(
    factory: str,
    input_shape: tuple[int, int],
    task: Task = "classification",
    arguments: Mapping[str, Any] | None = None,
    length: int | None = None,
    is_dynamic: bool = False,
) -> Source:
    """Let a user's factory make a network, and find out what goes in and what comes out.

    Args:
        factory: ``MODULE:NAME``; the module is looked for in the current folder first.
        input_shape: Channels and steps of a window.
        task: What the outputs mean; nobody but the user knows.
        arguments: Keyword arguments for the factory.
        length: Steps of the window that is exported, where they differ from ``input_shape``.
        is_dynamic: The length will be left symbolic, so the network has to run at any.

    Returns:
        A source that says nothing of the data: see `export_data.informed`.

    Raises:
        FactoryError: The factory or the network fails, or gives what cannot be exported.
    """
    module = make_module(factory, arguments or {}).eval()
    check_weights(factory, module)
    probe = Probe(factory, module, input_shape[0])
    steps = length or input_shape[1]
    shape = probe.shape_at(input_shape[1])
    if steps != input_shape[1]:
        longer = shape
        shape = probe.shape_at(steps, "--length asks for it. ")
        others = {input_shape[1]: longer}
    elif is_dynamic:
        lengths = (2 * steps + 1, max(steps // 2, 2))
        others = {n: probe.shape_at(n, "--length dynamic asks for any. ") for n in lengths}
    else:
        others = probe.first_that_runs(2 * steps + 1, 2 * steps, max(steps // 2, 2))
    probe.check_habits(steps)
    output = _output(factory, task, {steps: shape, **others}, steps, is_dynamic)
    window = (BATCH, input_shape[0], LENGTH if others else steps)
    names = tuple(map(str, range(shape[0]))) if task == "classification" else ()
    return Source(
        name=factory.partition(":")[2],
        path=None,
        kind="factory",
        sha256=_digest(module),
        module=module.requires_grad_(False),
        signature=Signature((TensorSpec(INPUT, "float32", window, 2),), (output,)),
        length=steps,
        task=task,
        classes=names,
        sample_rate_hz=None,
        center=np.zeros(input_shape[0]),
        spread=np.ones(input_shape[0]),
        architecture=factory,
        config=dict(arguments or {}),
        training={},
    )


def _output(
    factory: str,
    task: Task,
    shapes: Mapping[int, tuple[int, ...]],
    steps: int,
    is_dynamic: bool,
) -> TensorSpec:
    """Tell outputs from steps by the shapes of the answers at several lengths."""
    if len({len(shape) for shape in shapes.values()}) > 1:
        raise FactoryError(
            f"`{factory}` answers with {' and '.join(map(str, shapes.values()))} at "
            f"{' and '.join(map(str, shapes))} steps; expected one kind of answer."
        )
    here = shapes[steps]
    follows = [all(shape[i] == n for n, shape in shapes.items()) for i in range(len(here))]
    if follows[0] and len(here) == 2 and len(shapes) > 1 and not follows[1]:
        raise FactoryError(
            f"`{factory}` answers with (batch, steps, outputs); expected (batch, outputs, "
            "steps). End it with `.transpose(1, 2)`."
        )
    per_step = len(here) == 2 and follows[1]
    fixed = here[:1] if per_step else here
    if is_dynamic and any(shape[: len(fixed)] != fixed for shape in shapes.values()):
        raise FactoryError(
            f"`{factory}` answers with {', '.join(map(str, shapes.values()))} at "
            f"{', '.join(map(str, shapes))} steps. With --length dynamic an answer has as "
            "many steps as the signal, or the same size always. Give a number as --length."
        )
    symbol: Dimension = LENGTH if len(shapes) > 1 else steps
    dimensions: tuple[Dimension, ...] = (BATCH, *fixed, *((symbol,) if per_step else ()))
    return TensorSpec(OUTPUTS[task], "float32", dimensions, 2 if per_step else None)


def _digest(module: nn.Module) -> str:
    """A sha256 over names and values of the state dict."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):  # what get_extra_state tells is no weight
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(np.ascontiguousarray(value.detach().numpy()).tobytes())
    return digest.hexdigest()
