"""Faults, planted where a bug of ours would be: among the rewrites of a real export."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from tcn_export.rewrite.base import Outcome, Rewrite, bypass
from tcn_export.rewrite.plans import ONNX

Change = Callable[[ir.Model], None]


class Plant(Rewrite):
    """A rewrite that breaks the graph."""

    name = "plant"

    def __init__(self, change: Change) -> None:
        self.change = change

    def call(self, model: ir.Model) -> Outcome:
        self.change(model)
        return Outcome(1)


def _node(model: ir.Model, operator: str, index: int = 0) -> ir.Node:
    return [node for node in model.graph if node.op_type == operator][index]


def _edit(node: ir.Node, position: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    value = node.inputs[position]
    array = change(value.const_value.numpy().copy()).astype(np.float32)
    value.const_value = ir.tensor(array, name=value.name)


def _one_weight(weight: np.ndarray) -> np.ndarray:
    place = np.unravel_index(np.abs(weight).argmax(), weight.shape)
    weight[place] *= 1.01
    return weight


def _one_nan(weight: np.ndarray) -> np.ndarray:
    weight.flat[0] = np.nan
    return weight


def _swap_sides(model: ir.Model) -> None:
    conv = _node(model, "Conv", 2)
    conv.attributes["pads"] = ir.AttrInt64s(
        "pads", list(conv.attributes["pads"].as_ints())[::-1]
    )


def _roll_classes(model: ir.Model) -> None:
    head = _node(model, "Gemm")
    for position in (1, 2):
        _edit(head, position, lambda a: np.roll(a, 1, axis=0))


def _zero_output(model: ir.Model) -> None:
    head = _node(model, "Gemm")
    for position in (1, 2):
        _edit(head, position, np.zeros_like)


def _skip_batch_norm(model: ir.Model) -> None:
    norm = _node(model, "BatchNormalization", 1)
    bypass(norm, norm.inputs[0])


def after(change: Change) -> tuple[Rewrite, ...]:
    return (*ONNX, Plant(change))


FAULTS: dict[str, tuple[Rewrite, ...]] = {
    "one weight changed by 1 %": after(lambda m: _edit(_node(m, "Conv", 2), 1, _one_weight)),
    "one BatchNorm not folded": (Plant(_skip_batch_norm), *ONNX),
    "crop on the wrong side": after(_swap_sides),
    "channels swapped": after(
        lambda m: _edit(_node(m, "Conv", 2), 1, lambda w: w[:, [1, 0, *range(2, w.shape[1])]])
    ),
    "an output of zeros": after(_zero_output),
    "NaN": after(lambda m: _edit(_node(m, "Conv", 2), 1, _one_nan)),
    "a bias dropped": after(lambda m: _edit(_node(m, "Conv", 2), 2, np.zeros_like)),
    "wrong class order": after(_roll_classes),
}
