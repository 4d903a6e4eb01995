"""Every value of an ONNX graph, computed by the standard's own evaluator."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import torch

from tcn_export.data import Array
from tcn_export.source.onnx_module import OnnxModule


def watch_values(model: bytes, x: Array, seen: Callable[[str, Array], None]) -> None:
    """Evaluate a float32 model, holding only what is still needed.

    Args:
        model: A serialised model of one input.
        x: Its input; the model computes in the precision of it.
        seen: Told of every float value that a node gives, by name, in the order of the graph.

    Raises:
        OnlySingle: An operator takes no float64.
        UnsupportedModelError: The model asks for too much memory.
    """
    module = OnnxModule(onnx.load_from_string(model)).eval()
    signal = torch.from_numpy(x)
    module.to(signal.dtype).watch(signal, seen)
