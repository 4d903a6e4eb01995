"""The truth: the user's own network, untouched, in double and in single precision.

What eager float32 errs is chance: the sum of many roundings, any one of which could have gone
the other way. A single value may by luck be right to the last digit where the same network
commonly errs by a hundred units in the last place, and then no other order of the same sums
could keep to a multiple of that error. So it is drawn more than once, from copies of which
some parameters are one rounding away (Parker 1997, "Monte Carlo Arithmetic", UCLA CSD-970002;
Vignes 1993, Mathematics and Computers in Simulation 35:233-261).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tcn_export.data import batches
from tcn_export.graph import Signature
from tcn_export.parity.golden import Reference
from tcn_export.parity.metrics import max_abs_error

_DRAWS = 4
"""Of the error of eager float32, besides that of the module as it is."""
_MOVED = 1 / 12
"""Share of the parameters that move by epsilon: as far as all would by being rounded once, in
the root mean square. Rounding moves a value by up to half an epsilon, evenly."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Have PyTorch compute on one thread.

    Many small calls are no faster on several, and where others use the cores too they wait for
    each other most of the time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Oracle:
    """Runs an eager module in eval mode, as it is and as a copy in float64.

    Where an operator takes no float64, the module as it is stands for the truth, and a copy
    one rounding away for float32: what they differ by is what float32 errs, and a little more.

    Args:
        module: The eager module; it is neither changed nor moved.
        signature: Gives the names of its inputs, in the order of its arguments, and outputs.
        is_single: It cannot be run in float64.
    """

    def __init__(
        self, module: nn.Module, signature: Signature, is_single: bool = False
    ) -> None:
        if module.training:
            raise ValueError("the oracle's module must be in eval mode")
        self._single = module
        self._double = None if is_single else copy.deepcopy(module).double()
        self._neighbours: dict[int, nn.Module] = {}
        self._inputs = [spec.name for spec in signature.inputs]
        self._outputs = [spec.name for spec in signature.outputs]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Reference:
        """Compute all outputs in both precisions, by name, and what single precision errs."""
        modules = (self._single, *(self._neighbour(seed) for seed in range(_DRAWS)))
        draws = [self._run(module, feeds) for module in modules]
        if self._double is not None:
            double = self._run(self._double, feeds)
        else:
            double = _widened(draws.pop(0))
        errors = {
            name: max(max_abs_error(draw[name], truth) for draw in draws)
            for name, truth in double.items()
        }
        return Reference(double, draws[0], errors)

    def batches(
        self, name: str, windows: NDArray[np.float32], both: bool
    ) -> Iterator[Reference]:
        """Compute over many windows, batch by batch; in float64 only, or in ``both``.

        Many windows are many draws of the error already.
        """
        for batch in batches(windows):
            feeds = {name: batch}
            if self._double is not None:
                single = self._run(self._single, feeds) if both else {}
                yield Reference(self._run(self._double, feeds), single)
            else:
                single = self._run(self._neighbour(0), feeds) if both else {}
                yield Reference(_widened(self._run(self._single, feeds)), single)

    def _neighbour(self, seed: int) -> nn.Module:
        """Made where it is asked for: each is a copy of the whole module."""
        if seed not in self._neighbours:
            self._neighbours[seed] = _neighbour(self._single, seed)
        return self._neighbours[seed]

    def _run(
        self, module: nn.Module, feeds: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        dtype = torch.float64 if module is self._double else torch.float32
        arguments = [torch.from_numpy(feeds[name]).to(dtype) for name in self._inputs]
        with torch.inference_mode():
            outputs = module(*arguments)
        values = outputs if isinstance(outputs, tuple) else (outputs,)
        return {name: value.numpy() for name, value in zip(self._outputs, values, strict=True)}


def _widened(outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: value.astype(np.float64) for name, value in outputs.items()}


def _neighbour(module: nn.Module, seed: int) -> nn.Module:
    """A copy whose parameters and buffers differ by roundings."""
    generator = torch.Generator().manual_seed(seed)
    epsilon = torch.finfo(torch.float32).eps
    near = copy.deepcopy(module)
    with torch.no_grad():
        for value in (*near.parameters(), *near.buffers()):
            if value.is_floating_point():
                draw = torch.rand(value.shape, generator=generator)
                up, down = draw < _MOVED / 2, draw > 1 - _MOVED / 2
                value.data = value * (1 + epsilon * (up.to(value) - down.to(value)))
    return near
