"""How large the values of a program become, before any of them is computed.

A small file may ask for more memory than there is. PyTorch's fake tensors have shapes and no
values: what is run on them takes none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tcn_export.source.base import MOST_ALIVE, MOST_VALUES


class Living:
    """The memory that the values of a program take at a time.

    Views share theirs, and are counted once.
    """

    def __init__(self) -> None:
        self._users: Counter[int] = Counter()
        self._values: dict[str, tuple[int, int]] = {}
        self._total = 0

    def add(self, values: Mapping[str, Any]) -> None:
        """Note new values.

        Raises:
            MemoryError: All together are more than `MOST_ALIVE`.
        """
        for name, value in values.items():
            self.remove(name)
            if not isinstance(value, Tensor):
                continue
            storage = value.untyped_storage()
            key, size = storage._cdata, storage.nbytes() // value.element_size()
            self._values[name] = key, size
            self._total += size if not self._users[key] else 0
            self._users[key] += 1
        if self._total > MOST_ALIVE:
            raise MemoryError(
                f"it holds {self._total:,} values at a time when it computes "
                f"`{next(iter(values), '')}`; expected at most {MOST_ALIVE:,}"
            )

    def remove(self, name: str) -> None:
        """Forget a value that nothing needs any more."""
        key, size = self._values.pop(name, (0, 0))
        if self._users[key]:
            self._users[key] -= 1
            self._total -= size if not self._users[key] else 0


@contextmanager
def measured() -> Iterator[Living]:
    """Within it, operators give tensors without values.

    Raises:
        MemoryError: One gives a tensor of more than `MOST_VALUES`.
    """
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        _Sizes(),  # type: ignore[no-untyped-call]
        torch.no_grad(),
    ):
        yield Living()


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
                    f"`{func}` gives {value.numel():,} values; expected at most "
                    f"{MOST_VALUES:,}"
                )
        return result
