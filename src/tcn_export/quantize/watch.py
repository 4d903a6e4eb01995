"""Run signals through a graph and keep figures of its values, never the values themselves.

Two passes at most: extremes, reduced to single numbers in the graph itself, and histograms
between those extremes. Memory is bounded by `_BUDGET`, whatever the number of signals; how
they are run, as windows or as streams, is a `Feeding`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from tcn_export.errors import DataError, UnsupportedModelError
from tcn_export.graph import Graph
from tcn_export.progress import Advance
from tcn_export.quantize.feeding import Feeding, Signals, Windows
from tcn_export.quantize.histogram import Histogram

Extremes = dict[str, tuple[float, float]]

_BUDGET = 8 * 1024 * 1024
"""Bytes of values that one run may hold or return at once."""
_EXTREMES = ("ReduceMin", "ReduceMax", "ReduceL1")
"""The sum of absolute values is there for NaN: finite ones may overflow it, never to NaN."""
_OWN: Mapping[str, str] = MappingProxyType({})
_ERRORS = 3  # severity: its warnings speak to its own developers


class Watch:
    """Watches values of a graph while signals run through it.

    Args:
        graph: The float32 graph with one input.
        signals: (windows, channels, length), or how signals are run.
        operators: Operators whose inputs and outputs are watched, as far as they are float32
            and are computed: those that ONNX Runtime's calibrators watch.
        budget: Bytes that the watched values of one run may take.
        without: Names of nodes that are not counted among the operators.
        sources: Of values that need not be watched, the one that holds the same numbers, by
            name.

    Raises:
        UnsupportedModelError: There are no such values.
    """

    def __init__(
        self,
        graph: Graph,
        signals: Signals | Feeding,
        operators: Collection[str],
        budget: int = _BUDGET,
        without: Collection[str] = (),
        sources: Mapping[str, str] = _OWN,
    ) -> None:
        self._proto = onnx.shape_inference.infer_shapes(
            ir.to_proto(graph.model), strict_mode=True
        )
        self._feeding = Windows(graph, signals) if isinstance(signals, np.ndarray) else signals
        self._budget = budget
        found = _watched(self._proto, operators, without)
        self.names = list(dict.fromkeys(sources.get(name, name) for name in found))
        if not self.names:
            raise UnsupportedModelError(
                "the network has no operator that int8 computes (Conv, Gemm, MatMul, Add "
                "...). Export it in float32."
            )

    @property
    def count(self) -> int:
        """How often `extremes` tells that it went on."""
        return self._feeding.count

    def extremes(self, advance: Advance) -> Extremes:
        """The smallest and the largest number of each value, over all signals.

        Args:
            advance: Told of every window, or of every hop of every stream.

        Raises:
            DataError: A value becomes infinite or no number.
        """
        session = _session(_reduced(self._proto, self.names, _EXTREMES, self._feeding.kept))
        low = np.full(len(self.names), np.inf, np.float32)
        high = -low
        wanted = [f"{name}.{operator}" for operator in _EXTREMES for name in self.names]
        for size, outputs in self._feeding.run(session, wanted, self._most):
            found = np.array(outputs, np.float32)
            least, most, total = found.reshape(len(_EXTREMES), -1)
            low, high = np.minimum(low, least), np.maximum(high, most)
            # Extremes pass over NaN in most places; a sum never does.
            low[np.isnan(total)] = np.nan
            advance(size)
        for name, limits in zip(self.names, zip(low, high, strict=True), strict=True):
            if not np.isfinite(limits).all():
                met = "NaN" if np.isnan(limits).any() else f"{limits[0]:g} and {limits[1]:g}"
                raise DataError(
                    f"the calibration {self._feeding.noun} drive the value `{name}` of the "
                    f"network to {met}, which no scale can hold. Compare their units and "
                    "their range with what the network was trained on."
                )
        return dict(
            zip(self.names, zip(low.tolist(), high.tolist(), strict=True), strict=True)
        )

    @cached_property
    def groups(self) -> list[list[str]]:
        """The values, divided so that those of one group fit into the budget.

        One group, unless a single signal fills it. Each costs a run of its own.
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
        """A histogram of each value between its ``limits``, over all signals.

        Args:
            limits: By name of the value, from `extremes`.
            advance: As for `extremes`, once per group of `groups`.
        """
        counted = {name: Histogram.empty(*limits[name]) for name in self.names}
        for group in self.groups:
            session = _session(_fetched(self._proto, group, self._feeding.kept))
            for size, values in self._feeding.run(session, group, self._most):
                for name in group:  # each array goes as soon as it was counted
                    counted[name] = counted[name].add(values.pop(0))
                advance(size)
        return counted

    @cached_property
    def _most(self) -> int:
        """So many signals at once that all that is watched of them fits into the budget."""
        return max(1, self._budget // max(sum(self._sizes.values()), 1))

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """Bytes of each value for one signal; shapes may be symbolic, so it is run."""
        session = _session(_reduced(self._proto, self.names, ("Size",), self._feeding.kept))
        wanted = [f"{name}.Size" for name in self.names]
        _, sizes = next(iter(self._feeding.run(session, wanted, 1)))
        return {name: 4 * int(size) for name, size in zip(self.names, sizes, strict=True)}


def _watched(
    proto: onnx.ModelProto, operators: Collection[str], without: Collection[str]
) -> list[str]:
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
        if node.op_type in operators and node.name not in without
        for name in (*node.input, *node.output)
    )
    return [name for name in dict.fromkeys(touched) if name in floats and name not in given]


def _reduced(
    proto: onnx.ModelProto,
    names: Sequence[str],
    operators: Sequence[str],
    kept: Collection[str],
) -> onnx.ModelProto:
    """The graph with one number per operator and value as its outputs, beside those kept."""
    model = _fetched(proto, (), kept)
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


def _fetched(
    proto: onnx.ModelProto, names: Sequence[str], kept: Collection[str]
) -> onnx.ModelProto:
    """The graph with values of its own as its outputs, beside those kept."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    del model.graph.output[:]
    model.graph.output.extend(value for value in proto.graph.output if value.name in kept)
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
