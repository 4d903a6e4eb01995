"""Sizes that operators of PyTorch believe without a look, looked at before they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def check_arguments(function: Callable[..., Any], named: Mapping[str, Any]) -> None:
    """Look at the arguments of an operator that would not do so itself.

    Args:
        function: The operator.
        named: Its arguments by name.

    Raises:
        ValueError: They do not fit each other.
    """
    name = getattr(function, "_opname", "")
    check = _CHECKED.get(name)
    if check is not None and not check(named):
        raise ValueError(f"the arguments of `{function}` do not fit each other")


def _batch_norm(named: Mapping[str, Any]) -> bool:
    x = named["input"]
    values = [named.get(n) for n in ("weight", "bias", "running_mean", "running_var")]
    return x.dim() > 1 and all(
        value is None or (value.dim() == 1 and value.shape[0] == x.shape[1])
        for value in values
    )


def _group_norm(named: Mapping[str, Any]) -> bool:
    x, channels, groups = named["input"], named["C"], named["group"]
    values = [named.get(n) for n in ("weight", "bias")]
    return (
        groups > 0
        and channels % groups == 0
        and x.numel() == named["N"] * channels * named["HxW"]
        and all(value is None or value.numel() == channels for value in values)
    )


def _weight_norm(named: Mapping[str, Any]) -> bool:
    v, g, dim = named["v"], named["g"], named.get("dim", 0)
    if dim == -1:
        return g.numel() == 1  # type: ignore[no-any-return]
    if dim not in (0, v.dim() - 1) or g.dim() != v.dim():
        return False
    return all(g.shape[i] == (v.shape[i] if i == dim else 1) for i in range(v.dim()))


def _attention(named: Mapping[str, Any]) -> bool:
    query, key, value = named["query"], named["key"], named["value"]
    if not query.dim() == key.dim() == value.dim() >= 2 or key.shape[-2] != value.shape[-2]:
        return False
    if query.shape[-1] != key.shape[-1] or key.shape[:-2] != value.shape[:-2]:
        return False
    if query.shape[:-2] != key.shape[:-2]:
        return False
    mask = named.get("attn_mask")
    wanted = (*query.shape[:-1], key.shape[-2])
    return mask is None or (
        mask.dim() <= len(wanted)
        and all(
            n in (1, m) for n, m in zip(reversed(mask.shape), reversed(wanted), strict=False)
        )
    )


def _division(named: Mapping[str, Any]) -> bool:
    """The smallest whole number by -1 is none, and stops the process."""
    x = named["self"]
    if not isinstance(x, Tensor) or isinstance(x, FakeTensor) or _is_no_integer(x.dtype):
        return True
    return not bool((x == torch.iinfo(x.dtype).min).any())


def _is_no_integer(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex or dtype == torch.bool


_CHECKED: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "_native_batch_norm_legit_no_training": _batch_norm,
    "native_group_norm": _group_norm,
    "_weight_norm": _weight_norm,
    "_weight_norm_interface": _weight_norm,
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("div", "divide", "div_", "floor_divide", "fmod", "remainder"), _division),
}
