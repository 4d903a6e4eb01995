"""How large the values of a program become, before any of them is computed.

A small file may ask for more memory than there is. PyTorch's fake tensors have shapes and no
values: what is run on them takes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tcn_export.errors import UnsupportedModelError
from tcn_export.source.base import MOST_VALUES
from tcn_export.source.file_signal import FileSignal
from tcn_export.source.user_code import border


def check_sizes(path: Path, network: nn.Module, signal: FileSignal) -> None:
    """Run a program on a window without values.

    Args:
        path: The file, for messages.
        network: The program.
        signal: What it takes.

    Raises:
        UnsupportedModelError: It makes a tensor of more than `MOST_VALUES`, cannot be run, or
            decides by values what it computes.
    """
    axes = (signal.channels, signal.steps)
    shape = (signal.batch or 1, *(axes if signal.layout == "NCL" else axes[::-1]))
    with (
        border(f"running `{path}` on {shape}", _ADVICE, UnsupportedModelError),
        FakeTensorMode(allow_non_fake_inputs=True),
        _Sizes(),  # type: ignore[no-untyped-call]
        torch.no_grad(),
    ):
        network(torch.empty(shape))


_ADVICE = "Check the file with the tool that wrote it, or export it for shorter windows."


class _Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Stops at the first operator that makes too large a tensor."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and value.numel() > MOST_VALUES:
                raise MemoryError(
                    f"`{func}` gives {value.numel():,} values for one window; expected at "
                    f"most {MOST_VALUES:,}"
                )
        return result
