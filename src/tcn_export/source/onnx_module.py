"""An ONNX model as an eager module: it computes in the precision of its input.

So the oracle, and whatever else runs a network, need not know where it came from. ONNX's own
evaluator computes it, operator by operator, unoptimised; its weights are parameters.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import Tensor, nn

from tcn_export.source.onnx_double import in_double
from tcn_export.source.onnx_kernels import KERNELS
from tcn_export.source.onnx_sizes import BoundedEvaluator, Watch


class OnnxModule(nn.Module):
    """Runs an ONNX model of one input.

    Args:
        model: A checked model whose first input is the signal, and whose float constants are
            all initialisers.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        bare = onnx.ModelProto()
        bare.CopyFrom(model)
        del bare.graph.input[1:]  # initialisers of old files
        weights = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT]
        self._names = [tensor.name for tensor in weights]
        for i, tensor in enumerate(weights):
            value = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
            self.register_parameter(f"constant_{i}", nn.Parameter(value, requires_grad=False))
            kind = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            bare.graph.input.append(onnx.helper.make_value_info(tensor.name, kind))
            bare.graph.initializer.remove(tensor)
        self._evaluators = _Evaluators(bare)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute all outputs; one tensor, or a tuple of several."""
        return self.watch(x)

    def watch(self, x: Tensor, seen: Watch | None = None) -> Tensor | tuple[Tensor, ...]:
        """Compute all outputs, and tell ``seen`` of every float value on the way."""
        evaluator, single = self._evaluators.at(x.dtype)
        feeds = {evaluator.input_names[0]: x.numpy()}
        for i, name in enumerate(self._names):
            value = self.get_parameter(f"constant_{i}").detach()
            feeds[name] = (value.float() if name in single else value).numpy()
        with np.errstate(all="ignore"):  # what is not finite shows in the answers
            answers = evaluator.answers(feeds, seen)
        values = [torch.from_numpy(np.ascontiguousarray(y)) for y in answers]
        return tuple(values) if len(values) > 1 else values[0]


class _Evaluators:
    """The evaluators of a model without its weights; copies of a module share them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._made: dict[torch.dtype, tuple[BoundedEvaluator, frozenset[str]]] = {}

    def __deepcopy__(self, _: object) -> _Evaluators:
        return self

    def at(self, dtype: torch.dtype) -> tuple[BoundedEvaluator, frozenset[str]]:
        """The evaluator for a precision, and the weights that stay float32 in it.

        Raises:
            OnlySingle: An operator takes no float64.
        """
        if dtype not in self._made:
            model, single = self._model, frozenset[str]()
            if dtype == torch.float64:
                model, single = in_double(model)
            self._made[dtype] = BoundedEvaluator(model, new_ops=KERNELS), single
        return self._made[dtype]
