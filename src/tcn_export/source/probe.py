"""A network that nobody described is run on seeded noise: what it answers, how steadily."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tcn_export.errors import ExportError, FactoryError
from tcn_export.source.adapter import leaves
from tcn_export.source.user_code import border

Shapes = tuple[tuple[int, ...], ...]
"""Of every output, without its batch."""

_SEED = 0
_LONGEST_REASON = 300
_LARGER_BATCH = 3
_BATCH = 2
_NUDGE, _BEND = 2.0**-36, 1e-10
"""Double precision follows a signal that changes so little, in a straight line but for so much
of its answer; single precision stands still, or leaps by 1e-7."""
_PUSH = 2.0**-6
"""So much moves what is rounded to half precision as well."""
_HEARD = 2.0**-16
"""Share of an answer that has to move then, so that double precision can show the nudge."""
_APART = 1e-4
"""How much of an answer may hang on the other windows of a batch: float32 rounds otherwise."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Runs a network on seeded noise and refuses answers that cannot be exported.

    Attributes:
        who: What messages call the network: its factory, or its file.
        module: The network.
        channels: Of the signal.
        is_nlc: The network takes (batch, steps, channels).
        error: What is raised where it cannot be exported.
        advice: What to do where it cannot be run, if that is always the same.
    """

    who: str
    module: nn.Module
    channels: int
    is_nlc: bool = False
    error: type[ExportError] = FactoryError
    advice: str = "Mend it there, or give another --input-shape."

    def noise(self, batch: int, steps: int) -> Tensor:
        """Seeded windows, the same every time."""
        generator = torch.Generator().manual_seed(_SEED)
        x = torch.randn(batch, self.channels, steps, generator=generator)
        return x.transpose(1, 2).contiguous() if self.is_nlc else x

    def answers(self, module: nn.Module, x: Tensor, advice: str = "") -> dict[str, Tensor]:
        """What the network makes of ``x``: finite tensors by path, the batch in front."""
        self._check_takes(module, x)
        shape, before = tuple(x.shape), x.clone()
        doing = f"running `{self.who}` on {x.dtype} of the shape {shape}"
        # Not inference_mode: weight_norm keeps what it computed last, and is copied later.
        with border(doing, f"{advice}{self.advice}", self.error), torch.no_grad():
            y = module(x)
        answers: dict[str, Tensor] = {}
        for path, value in leaves(y):
            if not isinstance(value, Tensor):
                where = f" in its `{path}`" if path else ""
                raise self.error(
                    f"`{self.who}` answers with a {type(value).__name__}{where}; expected a "
                    "tensor, or a dictionary or tuple of tensors. Let the factory wrap it in "
                    "a module that returns that."
                )
            if path in answers:
                raise self.error(
                    f"`{self.who}` answers with two tensors under `{path}`: keys of "
                    "dictionaries that differ by type, or hold dots, end in one name. Give "
                    "them names of their own."
                )
            self._check(path, value, x)
            answers[path] = value
        if not answers:
            raise self.error(f"`{self.who}` answers with nothing; expected a tensor.")
        if not torch.equal(x, before):
            raise self.error(
                f"`{self.who}` changes its input while it runs. Write `x = x - mean` "
                "instead of `x -= mean`."
            )
        return answers

    def _check_takes(self, module: nn.Module, x: Tensor) -> None:
        """Raise the error where a network cannot be called with one signal."""
        try:
            takes = inspect.signature(module.forward)
        except (ValueError, TypeError):  # written in C, and silent about its parameters
            return
        try:
            takes.bind(x)
        except TypeError as error:
            raise self.error(
                f"`{self.who}` takes {takes}; expected one signal ({error}). Wrap it in a "
                "module that takes one signal and fills in the rest."
            ) from error

    def _check(self, path: str, y: Tensor, x: Tensor) -> None:
        """Raise the error unless an answer has a form that can be exported."""
        who = f"`{self.who}`{f' in its `{path}`' if path else ''}"
        shape, found = tuple(x.shape), tuple(y.shape)
        only = "; or return only the outputs that have this form" if path else ""
        if y.dtype != x.dtype:
            raise self.error(
                f"{who} answers {x.dtype} with {y.dtype}; expected the same. "
                f"Return the scores themselves, without argmax or casts{only}."
            )
        if len(found) not in (2, 3) or found[0] != shape[0]:
            raise self.error(
                f"{who} answers a signal of the shape {shape} with the shape {found}; "
                "expected (batch, outputs) or (batch, outputs, steps), and a batch of "
                f"{shape[0]}. Mind `squeeze()` without an axis and `view` without a batch"
                f"{only}."
            )
        bad = int((~torch.isfinite(y)).sum())
        if bad or not y.numel():
            raise self.error(
                f"{bad} of {y.numel()} values that {who} answers to noise of the "
                f"shape {shape} are NaN or infinite; expected finite numbers. Look for a "
                "division by zero or a logarithm, or give another --input-shape."
            )

    def shapes_at(self, steps: int, advice: str = "") -> Shapes:
        """The shapes of the answers, without their batch, which must follow the input's."""
        one, two, three = (
            tuple(
                tuple(y.shape[1:])
                for y in self.answers(self.module, self.noise(batch, steps), advice).values()
            )
            for batch in (1, _BATCH, _LARGER_BATCH)
        )
        if not one == two == three:
            raise self.error(
                f"the shape of what `{self.who}` answers depends on the batch: "
                f"{_told(one)}, {_told(two)} and {_told(three)} for one, {_BATCH} and "
                f"{_LARGER_BATCH} windows."
            )
        return two

    def first_that_runs(self, *lengths: int) -> dict[int, Shapes]:
        """Length and shapes at the first of ``lengths`` where the network runs, if at any."""
        for steps in lengths:
            with suppress(self.error):  # a network may well be made for one length
                return {steps: self.shapes_at(steps)}
        return {}

    def check_repeats(self, steps: int) -> None:
        """Raise the error where the same signal is answered differently each time."""
        x = self.noise(_BATCH, steps)
        once, again = (self.answers(self.module, x) for _ in range(2))
        if not _are_equal(tuple(once.values()), tuple(again.values())):
            raise self.error(
                f"`{self.who}` answers the same signal differently each time, in eval "
                "mode. Look for `F.dropout` without `training=self.training`, for random "
                "numbers, and for states that it keeps between calls; was a file exported "
                "without model.eval()?"
            )

    def check_double(self, steps: int, advice: str = "") -> None:
        """Raise the error where a copy in float64 does not run."""
        with border(f"copying `{self.who}`", error=self.error):
            double = copy.deepcopy(self.module).double()
        x = self.noise(_LARGER_BATCH, steps).double()
        here, near, beyond, far = (
            self.answers(double, x + n * x.flip(0), advice)
            for n in (0, _NUDGE, 2 * _NUDGE, _PUSH)
        )
        for path, y in here.items():
            bend = (beyond[path] - 2 * near[path] + y).abs().max()
            stands = torch.equal(near[path], y) and torch.equal(beyond[path], y)
            # Units may be dead for one window or the other, or hardly hear the signal.
            heard = (far[path] - y).abs().flatten(1) > _HEARD * y.abs().max()
            moves = bool(heard.any(1).all())
            if bend > _BEND * y.abs().max() or (stands and moves):
                raise self.error(
                    f"`{self.who}` rounds to less than float64 on its way, for float64 too. "
                    f"{advice}Look for casts (`.float()`, `.half()`) in forward."
                )

    def why_only_single(self, steps: int) -> str:
        """Why a copy in float64 does not run; "" where it does."""
        try:
            self.check_double(steps)
        except self.error as error:
            return " ".join(str(error.__cause__ or error).split())[:_LONGEST_REASON]
        return ""

    def check_apart(self, steps: int, advice: str) -> None:
        """Raise the error where a window is answered otherwise among others than alone."""
        x = self.noise(_LARGER_BATCH, steps)
        together = self.answers(self.module, x, advice)
        alone = [self.answers(self.module, window[None]) for window in x]
        for path, y in together.items():
            apart = torch.cat([one[path] for one in alone])
            if y.shape != apart.shape or (y - apart).abs().max() > _APART * apart.abs().max():
                raise self.error(
                    f"`{self.who}` answers a window otherwise when there are others beside "
                    f"it. {advice}"
                )


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of what a module keeps, to compare it with later."""
    state = module.state_dict()
    return {name: v.clone() for name, v in state.items() if isinstance(v, Tensor)}


def check_keeps(
    who: str, module: nn.Module, before: Mapping[str, Tensor], error: type[ExportError]
) -> None:
    """Raise ``error`` where a network was changed by being run.

    Args:
        who: What messages call the network.
        module: The network, after it was run in eval mode.
        before: Its `state_of` from before.
        error: What is raised.
    """
    for name, value in before.items():
        now = module.state_dict().get(name)
        if now is not None and torch.equal(now, value):
            continue
        owner = module.get_submodule(name.rpartition(".")[0])
        is_training = owner.training and isinstance(owner, nn.modules.batchnorm._BatchNorm)
        why = "its BatchNorm is put into train mode inside forward" if is_training else ""
        raise error(
            f"`{who}` changes its `{name}` while it runs{f': {why}' if why else ''}. Expected "
            "answers only, in eval mode: leave train() out of forward, and keep no state "
            "between calls."
        )


def check_weights(who: str, module: nn.Module, error: type[ExportError]) -> None:
    """Raise ``error`` unless all weights are finite float32 on the processor."""
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(value):
            raise error(
                f"`{name}` of `{who}` has no size yet. Run the network once inside the "
                "factory, before its weights are loaded."
            )
        if value.device.type != "cpu":
            raise error(
                f"`{name}` of `{who}` is on {value.device}; the eager model is run on the "
                "processor. Return `model.cpu()`, with its weights loaded."
            )
        is_number = value.is_floating_point() or value.is_complex()
        if is_number and value.dtype != torch.float32:
            raise error(
                f"`{name}` of `{who}` is {value.dtype}; expected torch.float32. Return "
                "`model.float()`; --precision chooses the artifact's arithmetic."
            )
        bad = int((~torch.isfinite(value)).sum())
        if bad:
            raise error(
                f"{bad} of {value.numel()} values of `{name}` of `{who}` are NaN or "
                "infinite. Load weights of a training that did not diverge."
            )


def _told(shapes: Shapes) -> str:
    return " and ".join(map(str, shapes))


def _are_equal(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(some) == len(others) and all(map(torch.equal, some, others))
