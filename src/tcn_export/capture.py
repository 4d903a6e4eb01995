"""Eager module -> canonical graph: the only file that calls ``torch.onnx``.

The exporter's own optimiser is left off: it folds BatchNorm in single precision and keeps
quiet about what it does not fold. What remains of it here is constant folding and the removal
of operators that do nothing; everything that changes numbers is a rewrite of ours.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from onnx_ir.passes import common
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from tcn_export.adopt import adopt
from tcn_export.canonical import canonicalize, name_interface, name_nodes
from tcn_export.errors import UnsupportedModelError
from tcn_export.graph import BATCH, LENGTH, Graph
from tcn_export.quiet import quiet
from tcn_export.settle_shapes import settle_shapes
from tcn_export.source.adapter import PREFIX, Adapter
from tcn_export.source.base import Source

_EXAMPLE_BATCH = 2  # with 1 the exporter would take the batch for a constant


def capture(source: Source, length: int | None, opset: int) -> Graph:
    """Trace a source into an ONNX graph with a dynamic batch; take over one that is a graph.

    Args:
        source: The network; it is not changed.
        length: Steps of the exported window; None keeps the length symbolic.
        opset: ONNX operator set version.

    Returns:
        A graph whose nodes are named after the PyTorch modules they come from.

    Raises:
        UnsupportedModelError: PyTorch's exporter cannot trace the module, or cannot express it
            in the operator set.
    """
    if source.model is not None:
        return adopt(source, length, opset)
    module = export_copy(source.module)
    signature = source.signature.with_length(length)
    steps = length if length is not None else max(source.length, 3)
    example = torch.zeros(_EXAMPLE_BATCH, source.channels, steps)
    dynamic: dict[int, Any] = {0: torch.export.Dim(BATCH, min=1)}
    if length is None:
        dynamic[2] = torch.export.Dim(LENGTH, min=2)
    with _quiet():
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                optimize=False,
                verbose=False,
                opset_version=opset,
                dynamic_shapes=(dynamic,),
                # Parameters may be called as the user calls an answer: names of ours first.
                input_names=[f"input:{i}" for i, _ in enumerate(signature.inputs)],
                output_names=[f"output:{i}" for i, _ in enumerate(signature.outputs)],
            )
        except torch.onnx.OnnxExporterError as error:
            raise UnsupportedModelError(
                f"PyTorch's exporter cannot trace {source.origin}: {_first_line(error)}"
            ) from error
    assert program is not None
    model = program.model
    if model.opset_imports.get("") != opset:  # the converter only logs where it gives up
        raise UnsupportedModelError(
            f"{source.origin} cannot be expressed in operator set {opset}: PyTorch's exporter "
            f"stayed at {model.opset_imports.get('')}. Choose that with --opset."
        )
    canonicalize(model)
    settle_shapes(model)
    name_interface(model.graph, signature)
    name_nodes(model.graph, PREFIX if isinstance(source.module, Adapter) else "")
    common.ShapeInferencePass()(model)
    model.producer_name, model.producer_version = "tcn-export", None
    return Graph(model, signature)


def export_copy(module: nn.Module) -> nn.Module:
    """A copy in eval mode without weight parametrisations; its weights are rounded only once.

    ``weight_norm`` is computed in double precision; exporting the parametrisation itself gives
    graphs that compute the weight again for every call. Its older form, a hook in front of
    ``forward`` that most published TCNs still use, is removed likewise.
    """
    plain = copy.deepcopy(module).eval().double()
    for child in plain.modules():
        for key, hook in list(
            child._forward_pre_hooks.items()
        ):  # PyTorch offers no public way
            if isinstance(hook, WeightNorm | SpectralNorm):
                hook.remove(child)
                del child._forward_pre_hooks[key]
        if parametrize.is_parametrized(child):
            _own_class(child)
            for name in list(child.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(child, name, leave_parametrized=True)
    return plain.float().requires_grad_(False)


def _own_class(module: nn.Module) -> None:
    """Give a copied module a class of its own.

    A parametrised weight is a property of a class that deepcopy shares with the original;
    PyTorch removes it by deleting that property, which would break the user's module.
    """
    shared = type(module)
    members = {k: v for k, v in vars(shared).items() if k not in ("__dict__", "__weakref__")}
    module.__class__ = type(shared.__name__, shared.__bases__, members)


def _first_line(error: Exception) -> str:
    return str(error.__cause__ or error).strip().split("\n", 1)[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on itself and on torchvision from the user."""
    with quiet("torch.onnx", "onnxscript"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # Recurrent layers hold their weights twice, which tracing notices.
        warnings.filterwarnings("ignore", message="The tensor attribute", category=UserWarning)
        yield
