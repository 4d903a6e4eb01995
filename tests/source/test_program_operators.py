"""Operators that a program may call: listed, and looked after where they believe sizes."""

from __future__ import annotations

import pytest
import torch

from programs import calling, forge
from tcn_export.errors import UnsupportedModelError
from tcn_export.source import program_operators
from tcn_export.source.base import Told
from tcn_export.source.program import load_program
from tcn_export.source.program_operators import find_operator


def test_listed_operators_are_found_by_name():
    assert find_operator("torch.ops.aten.relu.default") is torch.ops.aten.relu.default
    assert find_operator("torch.ops.aten.relu_.default") is torch.ops.aten.relu_.default


def test_every_listed_operator_exists():
    listed = {*program_operators._ALLOWED, *program_operators._IN_PLACE}
    missing = {name for name in listed if not hasattr(torch.ops.aten, name)}
    assert not missing


def tensor(name):
    return {"as_tensor": {"name": name}}


def made(name, shape, value=1.0, kind=7):
    """A node that makes a tensor of equal values."""
    number = {"as_int": value} if kind == 5 else {"as_float": value}
    named = {
        "size": {"as_ints": shape}, "fill_value": number, "dtype": {"as_scalar_type": kind},
    }  # fmt: skip
    return {
        "target": "torch.ops.aten.full.default", "metadata": {},
        "inputs": [{"name": key, "arg": arg, "kind": 1} for key, arg in named.items()],
        "outputs": [tensor(name)],
    }  # fmt: skip


FORGED = {
    "batch norm": (
        "_native_batch_norm_legit_no_training.default", 3,
        [made("a", [1, 9, 2]), made("b", [1])],
        {
            "input": tensor("a"), "weight": {"as_none": True}, "bias": {"as_none": True},
            "running_mean": tensor("b"), "running_var": tensor("b"),
            "momentum": {"as_float": 0.1}, "eps": {"as_float": 0.1},
        },
    ),
    "weight norm": (
        "_weight_norm.default", 1, [made("a", [9, 3, 1]), made("b", [1, 1, 1])],
        {"v": tensor("a"), "g": tensor("b"), "dim": {"as_int": 0}},
    ),
    "attention": (
        "scaled_dot_product_attention.default", 1,
        [made("a", [1, 1, 9, 8]), made("b", [1, 1, 1, 8])],
        {"query": tensor("a"), "key": tensor("a"), "value": tensor("b")},
    ),
    "division": (
        "div.Tensor_mode", 1, [made("a", [2], -(2**63), 5), made("b", [2], -1, 5)],
        {"self": tensor("a"), "other": tensor("b"), "rounding_mode": {"as_string": "trunc"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGED)
def test_sizes_that_an_operator_believes_without_a_look_are_looked_at(own, case):
    target, count, before, named = FORGED[case]

    def change(told):
        calling(f"torch.ops.aten.{target}", **named)(told)
        nodes = told["graph_module"]["graph"]["nodes"]
        nodes[0]["outputs"] = [tensor(f"forged{i}") for i in range(count)]
        nodes[:0] = before

    with pytest.raises(UnsupportedModelError, match="ValueError: the arguments of"):
        load_program(forge(own, model=change), Told())


@pytest.mark.parametrize(
    "target",
    [
        "adaptive_max_pool2d_backward.default", "max_unpool2d.default", "resize_.default",
        "add.out", "upsample_nearest1d.default", "view.dtype", "mkldnn_convolution.default",
        "empty.memory_format", "put_.default", "native_batch_norm.default",
    ],
)  # fmt: skip
def test_operators_that_trust_their_arguments_are_not_listed(own, target):
    forge(own, model=calling(f"torch.ops.aten.{target}"))
    with pytest.raises(UnsupportedModelError, match=r"none of the operators.*--factory"):
        load_program(own, Told())
