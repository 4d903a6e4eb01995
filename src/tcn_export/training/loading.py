"""Batches of windows: cut out of one array, in an order that seed and epoch decide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tcn_export.data import Windows

Batch = tuple[Tensor, Tensor]


class _WindowSet(Dataset[Batch]):
    """Gives a batch in one look-up; stacking single windows costs more than the network."""

    def __init__(self, windows: Windows) -> None:
        assert windows.y is not None
        self.x = torch.from_numpy(np.ascontiguousarray(windows.x))
        self.y = torch.from_numpy(np.ascontiguousarray(windows.y))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Batch:
        return self.x[index], self.y[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        return self.x[indices], self.y[indices]


class _ShuffleByEpoch(Sampler[int]):
    """A new order every epoch that does not depend on what was drawn before."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning when an epoch begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        return iter(torch.randperm(self.size, generator=generator).tolist())


def loader(windows: Windows, batch: int, seed: int | None) -> DataLoader[Batch]:
    """A loader of labelled windows; shuffled where a seed is given.

    A last batch of a single window is left out while shuffling: BatchNorm cannot learn from
    one.
    """
    data = _WindowSet(windows)
    sampler = None if seed is None else _ShuffleByEpoch(len(data), seed)
    lone = seed is not None and len(data) % batch == 1 and len(data) > 1
    return DataLoader(
        data, batch_size=batch, sampler=sampler, collate_fn=_as_it_is, drop_last=lone
    )


def _as_it_is(batch: Any) -> Any:
    return batch
