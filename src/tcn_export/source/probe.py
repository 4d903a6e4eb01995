"""A network that nobody described is run on seeded noise: what it answers, and how steadily."""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tcn_export.errors import FactoryError
from tcn_export.source.user_code import border

_SEED = 0
_LARGER_BATCH = 3
_BATCH = 2


@dataclass(frozen=True, slots=True)
class Probe:
    """Runs a user's network on seeded noise and refuses answers that cannot be exported."""

    factory: str
    module: nn.Module
    channels: int

    def noise(self, batch: int, steps: int) -> Tensor:
        """Seeded windows, the same every time."""
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


def check_weights(factory: str, module: nn.Module) -> None:
    """Raise `FactoryError` unless all weights are finite float32 on the processor."""
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
