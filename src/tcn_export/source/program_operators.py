"""Which operators a program may call: those that compute with tensors, and nothing else."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

import torch

_ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
_INTERNAL = {
    "_adaptive_avg_pool2d", "_convolution", "_log_softmax",
    "_native_batch_norm_legit_no_training", "_safe_softmax", "_softmax", "_to_copy",
    "_unsafe_view", "_weight_norm", "_weight_norm_interface",
}  # fmt: skip
"""Of the operators with an underscore, which may trust their arguments blindly."""
_REACHING_OUT = {
    "as_strided", "as_strided_", "from_file", "resize_", "resize_as_", "save", "set_", "warn",
}  # fmt: skip
_CHECKS = re.compile(
    r"torch\.ops\.aten\.(_assert_\w+|_functional_assert_\w+|sym_constrain_range\w*"
    r"|_functional_sym_constrain_range\w*)\.\w+"
)
_NUMBERS: dict[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in (
            "add", "sub", "mul", "floordiv", "truediv", "mod", "neg",
            "eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_",
        )
    },
    **{
        f"torch.{name}": getattr(torch, name)
        for name in ("sym_float", "sym_int", "sym_max", "sym_min", "sym_not")
    },
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc")},
}  # fmt: skip


def is_check(target: str) -> bool:
    """Whether an operator only asserts; what it asserts is looked at otherwise."""
    return _CHECKS.fullmatch(target) is not None


def is_aten(target: str) -> bool:
    """Whether the arguments of an operator have names."""
    return _ATEN.fullmatch(target) is not None


def find_operator(target: str) -> Callable[..., Any] | None:
    """Look an operator up by the name that a program calls it by.

    >>> find_operator("_operator.add")(2, 3)
    5
    >>> find_operator("torch.ops.aten.from_file.default") is None
    True
    """
    if target in _NUMBERS:
        return _NUMBERS[target]
    match = _ATEN.fullmatch(target)
    if match is None:
        return None
    name, overload = match.groups()
    if name in _REACHING_OUT or (name.startswith("_") and name not in _INTERNAL):
        return None
    packet = getattr(torch.ops.aten, name, None)
    found = getattr(packet, overload, None)
    return found if isinstance(found, torch._ops.OpOverload) else None
