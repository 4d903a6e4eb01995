"""The truth: the user's own eager module, untouched, in double and in single precision."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tcn_export.data import batches
from tcn_export.graph import Signature
from tcn_export.parity.golden import Reference


class Oracle:
    """Runs an eager module in eval mode, as it is and as a copy in float64.

    Args:
        module: The eager module; it is neither changed nor moved.
        signature: Gives the names of its inputs, in the order of its arguments, and outputs.
    """

    def __init__(self, module: nn.Module, signature: Signature) -> None:
        if module.training:
            raise ValueError("the oracle's module must be in eval mode")
        self._single = module
        self._double = copy.deepcopy(module).double()
        self._inputs = [spec.name for spec in signature.inputs]
        self._outputs = [spec.name for spec in signature.outputs]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Reference:
        """Compute all outputs in both precisions, by name."""
        return Reference(self._run(self._double, feeds), self._run(self._single, feeds))

    def batches(
        self, name: str, windows: NDArray[np.float32], both: bool
    ) -> Iterator[Reference]:
        """Compute over many windows, batch by batch; in float64 only, or in ``both``."""
        for batch in batches(windows):
            feeds = {name: batch}
            single = self._run(self._single, feeds) if both else {}
            yield Reference(self._run(self._double, feeds), single)

    def _run(
        self, module: nn.Module, feeds: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        dtype = torch.float64 if module is self._double else torch.float32
        arguments = [torch.from_numpy(feeds[name]).to(dtype) for name in self._inputs]
        with torch.inference_mode():
            outputs = module(*arguments)
        return {
            name: value.numpy() for name, value in zip(self._outputs, (outputs,), strict=True)
        }
