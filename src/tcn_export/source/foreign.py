"""A network that tcn-train did not make: the user's own factory builds it, weights and all.

Nothing is known of such a network but what running it shows. It is run on seeded noise at
several batches and lengths; which axes of its answer follow the batch and the length is read
off the shapes.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tcn_export.errors import FactoryError
from tcn_export.graph import BATCH, LENGTH, Dimension, Signature, TensorSpec
from tcn_export.source.base import INPUT, OUTPUTS, Source, Task
from tcn_export.source.user_code import border, make_module

_SEED = 0
_LARGER_BATCH = 3
_BATCH = 2


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
    _check_weights(factory, module)
    probe = _Probe(factory, module, input_shape[0])
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


def _check_weights(factory: str, module: nn.Module) -> None:
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(value):
            raise FactoryError(
                f"`{name}` of `{factory}` has no size yet. Run the network once inside the "
                "factory, before its weights are loaded."
            )
        if value.device.type != "cpu":
            raise FactoryError(
                f"`{name}` of `{factory}` is on {value.device}; the eager model is run on the "
                "processor. Return `model.cpu()`, with its weights loaded."
            )
        is_number = value.is_floating_point() or value.is_complex()
        if is_number and value.dtype != torch.float32:
            raise FactoryError(
                f"`{name}` of `{factory}` is {value.dtype}; expected torch.float32. Return "
                "`model.float()`; --precision chooses the artifact's arithmetic."
            )
        bad = int((~torch.isfinite(value)).sum())
        if bad:
            raise FactoryError(
                f"{bad} of {value.numel()} values of `{name}` of `{factory}` are NaN or "
                "infinite. Load weights of a training that did not diverge."
            )


@dataclass(frozen=True, slots=True)
class _Probe:
    """Runs a user's network on seeded noise and refuses answers that cannot be exported."""

    factory: str
    module: nn.Module
    channels: int

    def noise(self, batch: int, steps: int) -> Tensor:
        generator = torch.Generator().manual_seed(_SEED)
        return torch.randn(batch, self.channels, steps, generator=generator)

    def answer(self, module: nn.Module, x: Tensor, advice: str = "") -> Tensor:
        """What the network makes of ``x``: one finite tensor with the batch in front."""
        shape, before = tuple(x.shape), x.clone()
        doing = f"running `{self.factory}` on {x.dtype} of the shape {shape}"
        # Not inference_mode: weight_norm keeps what it computed last, and is copied later.
        advice = f"{advice}Mend it there, or give another --input-shape."
        with border(doing, advice), torch.no_grad():
            y = module(x)
        if not isinstance(y, Tensor):
            raise FactoryError(
                f"`{self.factory}` answers with a {type(y).__name__}; so far only networks "
                "with one output can be exported. Let the factory wrap it in a module that "
                "returns one tensor."
            )
        found = tuple(y.shape)
        if y.dtype != x.dtype:
            raise FactoryError(
                f"`{self.factory}` answers {x.dtype} with {y.dtype}; expected the same. "
                "Return the scores themselves, without argmax or casts."
            )
        if len(found) not in (2, 3) or found[0] != shape[0]:
            raise FactoryError(
                f"`{self.factory}` answers a signal of the shape {shape} with the shape "
                f"{found}; expected (batch, outputs) or (batch, outputs, steps), and a batch "
                f"of {shape[0]}. Mind `squeeze()` without an axis and `view` without a batch."
            )
        bad = int((~torch.isfinite(y)).sum())
        if bad or not y.numel():
            raise FactoryError(
                f"{bad} of {y.numel()} values that `{self.factory}` answers to noise of the "
                f"shape {shape} are NaN or infinite; expected finite numbers. Look for a "
                "division by zero or a logarithm, or give another --input-shape."
            )
        if not torch.equal(x, before):
            raise FactoryError(
                f"`{self.factory}` changes its input while it runs. Write `x = x - mean` "
                "instead of `x -= mean`."
            )
        return y

    def shape_at(self, steps: int, advice: str = "") -> tuple[int, ...]:
        """The shape of an answer, without its batch, which must follow the input's."""
        one, two, three = (
            tuple(self.answer(self.module, self.noise(batch, steps), advice).shape[1:])
            for batch in (1, _BATCH, _LARGER_BATCH)
        )
        if not one == two == three:
            raise FactoryError(
                f"the shape of what `{self.factory}` answers depends on the batch: {one}, "
                f"{two} and {three} for one, {_BATCH} and {_LARGER_BATCH} windows."
            )
        return two

    def first_that_runs(self, *lengths: int) -> dict[int, tuple[int, ...]]:
        """Length and shape at the first of ``lengths`` where the network runs, if at any."""
        for steps in lengths:
            with suppress(FactoryError):  # a network may well be made for one length
                return {steps: self.shape_at(steps)}
        return {}

    def check_habits(self, steps: int) -> None:
        """Refuse what makes no oracle: other answers each time, or none in float64."""
        x = self.noise(_BATCH, steps)
        if not torch.equal(self.answer(self.module, x), self.answer(self.module, x)):
            raise FactoryError(
                f"`{self.factory}` answers the same signal differently each time, in eval "
                "mode. Look for `F.dropout` without `training=self.training`, for random "
                "numbers, and for states that it keeps between calls."
            )
        advice = (
            "The float64 copy is what the artifact is compared with: make constants with "
            "`x.new_tensor(...)` or `register_buffer`. "
        )
        with border(f"copying `{self.factory}`"):
            double = copy.deepcopy(self.module).double()
        self.answer(double, x.double(), advice)


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
