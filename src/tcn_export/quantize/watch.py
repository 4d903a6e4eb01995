"""Run windows through a graph and keep figures of its values, never the values themselves.

Two passes at most: extremes, reduced to single numbers in the graph itself, and histograms
between those extremes. Memory is bounded by `_BUDGET`, whatever the number of windows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from tcn_export.data import BATCH_WINDOWS
from tcn_export.errors import DataError, UnsupportedModelError
from tcn_export.graph import Graph
from tcn_export.progress import Advance
from tcn_export.quantize.histogram import Histogram

Signals = NDArray[np.float32]
Extremes = dict[str, tuple[float, float]]

_BUDGET = 8 * 1024 * 1024
"""Bytes of values that one run may hold or return at once."""
_EXTREMES = ("ReduceMin", "ReduceMax", "ReduceL1")
"""The sum of absolute values is there for NaN: finite ones may overflow it, never to NaN."""
_ERRORS = 3  # severity: its warnings speak to its own developers


class Watch:
    """Watches values of a graph while windows run through it.

    Args:
        graph: The float32 graph with one input.
        windows: (windows, channels, length).
        operators: Operators whose inputs and outputs are watched, as far as they are float32
            and are computed: those that ONNX Runtime's calibrators watch.
        budget: Bytes that the watched values of one run may take.

    Raises:
        UnsupportedModelError: There are no such values.
    """

    def __init__(
        self,
        graph: Graph,
        windows: Signals,
        operators: Collection[str],
        budget: int = _BUDGET,
    ) -> None:
        self._proto = onnx.shape_inference.infer_shapes(
            ir.to_proto(graph.model), strict_mode=True
        )
        self._input = graph.signature.inputs[0].name
        self._windows = windows
        self._budget = budget
        self.names = _watched(self._proto, operators)
        if not self.names:
            raise UnsupportedModelError(
                "the network has no operator that int8 computes (Conv, Gemm, MatMul, Add "
                "...). Export it in float32."
            )

    def extremes(self, advance: Advance) -> Extremes:
        """The smallest and the largest number of each value, over all windows.

        Args:
            advance: Told of every window.

        Raises:
            DataError: A value becomes infinite or no number.
        """
        session = _session(_reduced(self._proto, self.names, _EXTREMES))
        low = np.full(len(self.names), np.inf, np.float32)
        high = -low
        for batch in self._batches():
            found = np.array(session.run(None, {self._input: batch}), np.float32)
            least, most, size = found.reshape(len(_EXTREMES), -1)
            low, high = np.minimum(low, least), np.maximum(high, most)
            # Extremes pass over NaN in most places; a sum never does.
            low[np.isnan(size)] = np.nan
            advance(len(batch))
        for name, limits in zip(self.names, zip(low, high, strict=True), strict=True):
            if not np.isfinite(limits).all():
                met = "NaN" if np.isnan(limits).any() else f"{limits[0]:g} and {limits[1]:g}"
                raise DataError(
                    f"the calibration windows drive the value `{name}` of the network to "
                    f"{met}, which no scale can hold. Compare their units and their range "
                    "with what the network was trained on."
                )
        return dict(
            zip(self.names, zip(low.tolist(), high.tolist(), strict=True), strict=True)
        )

    @cached_property
    def groups(self) -> list[list[str]]:
        """The values, divided so that those of one group fit into the budget.

        One group, unless a single window fills it. Each costs a run of its own.
        """
        groups: list[list[str]] = []
        filled = self._budget
        for name, size in self._sizes.items():
            if filled + size > self._budget:
                groups.append([])
                filled = 0
            groups[-1].append(name)
            filled += size
        return groups

    def histograms(self, limits: Extremes, advance: Advance) -> dict[str, Histogram]:
        """A histogram of each value between its ``limits``, over all windows.

        Args:
            limits: By name of the value, from `extremes`.
            advance: Told of every window, once per group of `groups`.
        """
        counted = {name: Histogram.empty(*limits[name]) for name in self.names}
        for group in self.groups:
            session = _session(_fetched(self._proto, group))
            for batch in self._batches():
                values = session.run(group, {self._input: batch})
                for name in group:  # each array goes as soon as it was counted
                    counted[name] = counted[name].add(values.pop(0))
                advance(len(batch))
        return counted

    def _batches(self) -> Iterator[Signals]:
        """Windows by so many that all that is watched of them fits into the budget."""
        size = sum(self._sizes.values())
        most = max(1, min(BATCH_WINDOWS, self._budget // max(size, 1)))
        for start in range(0, len(self._windows), most):
            yield np.ascontiguousarray(self._windows[start : start + most])

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """Bytes of each value for one window; shapes may be symbolic, so it is run."""
        session = _session(_reduced(self._proto, self.names, ("Size",)))
        sizes = session.run(None, {self._input: self._windows[:1]})
        return {name: 4 * int(size) for name, size in zip(self.names, sizes, strict=True)}


def _watched(proto: onnx.ModelProto, operators: Collection[str]) -> list[str]:
    graph = proto.graph
    given = {tensor.name for tensor in graph.initializer}
    floats = {
        value.name
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    touched = (
        name
        for node in graph.node
        if node.op_type in operators
        for name in (*node.input, *node.output)
    )
    return [name for name in dict.fromkeys(touched) if name in floats and name not in given]


def _reduced(
    proto: onnx.ModelProto, names: Sequence[str], operators: Sequence[str]
) -> onnx.ModelProto:
    """The graph with one number per operator and value as its outputs."""
    model = _fetched(proto, ())
    readers: Mapping[str, list[onnx.NodeProto]] = {name: [] for name in names}
    for operator in operators:
        kind = onnx.TensorProto.INT64 if operator == "Size" else onnx.TensorProto.FLOAT
        options: dict[str, Any] = {} if operator == "Size" else {"keepdims": 0}
        for name in names:
            result = f"{name}.{operator}"
            readers[name].append(
                onnx.helper.make_node(operator, [name], [result], name=result, **options)
            )
            model.graph.output.append(onnx.helper.make_tensor_value_info(result, kind, []))
    # Right behind what computes a value, so that its memory is free again early.
    nodes = [node for value in model.graph.input for node in readers.get(value.name, [])]
    for node in model.graph.node:
        nodes.append(node)
        nodes += [reader for output in node.output for reader in readers.get(output, [])]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _fetched(proto: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The graph with values of its own as its outputs."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
    )
    return model


def _session(model: onnx.ModelProto) -> Any:
    options = ort.SessionOptions()
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS
    # The graph as it stands is measured, not what the runtime would make of it.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Memory goes back after each run, so that the last, smaller batch takes no more.
    options.enable_cpu_mem_arena = False
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
