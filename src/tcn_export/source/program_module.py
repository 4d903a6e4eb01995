"""A torch.export program as an eager module: its operators, one after the other.

PyTorch's own loader unpickles and evaluates what an archive holds, and the module that it
makes is generated code. Here a program is data: operators that were looked up by name in a
list of those of an inference, and their arguments. Before it runs at a new shape, it is run
without values, to see how much memory it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tcn_export.errors import UnsupportedModelError
from tcn_export.source.program_arguments import check_arguments
from tcn_export.source.program_sizes import Living, measured

_LARGEST = 2**63
"""Of the numbers; multiplied on and on they would fill the memory."""


@dataclass(frozen=True, slots=True)
class Ref:
    """An argument that another operator computes, or a weight."""

    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """One operator.

    Attributes:
        function: What is called.
        arguments: By name; positional ones have a number as name. `Ref` and lists of them are
            looked up, a dtype is that of the precision at hand.
        outputs: Names of what it returns; a list within is a list of tensors.
        scope: Path of the module that it was traced in.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    outputs: tuple[str | list[str] | None, ...]
    scope: str


@dataclass(frozen=True, slots=True)
class Program:
    """What a program computes.

    Attributes:
        who: What messages call it.
        signal: Name of its input.
        weights: Parameters and other constants by their path in the module.
        names: Name that the steps know each of them by.
        steps: The operators, in order.
        answers: What it gives, by path; one under the empty path is given alone.
    """

    who: str
    signal: str
    weights: Mapping[str, Tensor]
    names: Mapping[str, str]
    steps: tuple[Step, ...]
    answers: Mapping[str, str]


class _Scope(nn.Module):
    """Stands for a module of the network: what is called in it is noted under its path."""

    def forward(
        self, function: Callable[..., Any], positional: list[Any], named: dict[str, Any]
    ) -> Any:
        return function(*positional, **named)


class ProgramModule(_Scope):
    """Runs a program in the precision of its input.

    Args:
        program: A program that was read.

    Raises:
        KeyError: Two weights, or a weight and a module, have the same path.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._program = program
        self._done = _last_uses(program)
        self._fits: set[tuple[int, ...]] = set()
        for path in {step.scope for step in program.steps if step.scope}:
            self._place(path)
        for path, value in program.weights.items():
            place, _, name = path.rpartition(".")
            if value.is_floating_point():
                parameter = nn.Parameter(value, requires_grad=False)
                self._place(place).register_parameter(name, parameter)
            else:
                self._place(place).register_buffer(name, value)

    def forward(self, x: Tensor) -> Any:  # type: ignore[override]
        """Compute the answers; one tensor, or a dictionary by path."""
        shape = tuple(x.shape)
        if type(x) is Tensor and not torch.compiler.is_exporting() and shape not in self._fits:
            self.check_size(shape, x.dtype)
        return self._compute(x, None)

    def check_size(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
        """Run the program on a signal without values.

        Raises:
            UnsupportedModelError: It takes too much memory.
        """
        try:
            with measured() as living:
                self._compute(torch.empty(shape, dtype=dtype), living)
        except MemoryError as error:
            raise UnsupportedModelError(
                f"`{self._program.who}` does not fit into memory for a signal of the shape "
                f"{shape}: {error}. Check the file with the tool that wrote it, or export it "
                "for shorter windows."
            ) from error
        self._fits.add(shape)

    def _compute(self, x: Tensor, living: Living | None) -> Any:
        program = self._program
        values: dict[str, Any] = {program.signal: x}
        for path, name in program.names.items():
            place, _, own = path.rpartition(".")
            values[name] = getattr(self.get_submodule(place), own)
        with _by_default(x.dtype):
            for step, done in zip(program.steps, self._done, strict=True):
                new = self._run(step, values, x.dtype)
                values.update(new)
                if living is not None:
                    living.add(new)
                for name in done:
                    values.pop(name, None)
                    if living is not None:
                        living.remove(name)
        answers = {path: values[name] for path, name in program.answers.items()}
        return answers[""] if answers.keys() == {""} else answers

    def _run(self, step: Step, values: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
        """What a step gives, by name."""
        arguments = {key: _look_up(v, values, dtype) for key, v in step.arguments.items()}
        positional = [value for key, value in arguments.items() if key.isdigit()]
        named = {key: value for key, value in arguments.items() if not key.isdigit()}
        check_arguments(step.function, named)
        if step.scope:
            result = self.get_submodule(step.scope)(step.function, positional, named)
        else:
            result = step.function(*positional, **named)
        if isinstance(result, int) and abs(result) > _LARGEST:
            raise OverflowError(f"`{step.function.__name__}` gives a number beyond 2^63")
        results = result if len(step.outputs) > 1 else (result,)
        found: dict[str, Any] = {}
        for names, one in zip(step.outputs, results, strict=True):
            if isinstance(names, list):
                found.update(zip(names, one, strict=True))
            elif names is not None:
                found[names] = one
        return found

    def _place(self, path: str) -> nn.Module:
        """The module at a path, made where there is none."""
        place: nn.Module = self
        for name in path.split(".") if path else ():
            if name not in place._modules:
                place.add_module(name, _Scope())
            place = place.get_submodule(name)
        return place


def _last_uses(program: Program) -> tuple[tuple[str, ...], ...]:
    """For each step, which values nothing needs any more after it."""
    kept = {*program.answers.values(), *program.names.values()}
    last: dict[str, int] = {}
    for i, step in enumerate(program.steps):
        for names in step.outputs:
            for name in names if isinstance(names, list) else [names]:
                if name is not None:
                    last[name] = i
        last.update(dict.fromkeys(_read(list(step.arguments.values())), i))
    done: list[list[str]] = [[] for _ in program.steps]
    for name, i in last.items():
        if name not in kept:
            done[i].append(name)
    return tuple(map(tuple, done))


def _read(arguments: list[Any]) -> Iterator[str]:
    """Names of the values among arguments."""
    for argument in arguments:
        if isinstance(argument, Ref):
            yield argument.name
        elif isinstance(argument, list):
            yield from _read(argument)


def _look_up(argument: Any, values: Mapping[str, Any], dtype: torch.dtype) -> Any:
    if isinstance(argument, Ref):
        return values[argument.name]
    if isinstance(argument, list):
        return [_look_up(one, values, dtype) for one in argument]
    if argument == torch.float32 and isinstance(argument, torch.dtype):
        return dtype
    return argument


@contextmanager
def _by_default(dtype: torch.dtype) -> Iterator[None]:
    """Let operators that make tensors of their own make them in a precision."""
    before = torch.get_default_dtype()
    if before == dtype:  # tracers follow no change that changes nothing
        yield
        return
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
