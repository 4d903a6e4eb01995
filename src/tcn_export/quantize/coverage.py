"""How many convolutions the runtime really executes on integers, and which it does not.

A Q/DQ graph only asks for integer arithmetic; whether the runtime fuses the nodes into integer
kernels shows in the graph that it optimised for itself, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from tcn_export.graph import Graph

_INTEGER = frozenset({"QLinearConv", "ConvInteger"})
_FLOAT = frozenset({"Conv", "FusedConv"})


@dataclass(frozen=True, slots=True)
class Coverage:
    """Convolutions executed as integer kernels, of all; and the names of the others."""

    integer: int
    total: int
    left_in_float: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The entry of the manifest."""
        return {
            "integer_convolutions": self.integer,
            "convolutions": self.total,
            "left_in_float": list(self.left_in_float),
            "counted_by": "ONNX Runtime's optimised graph",
        }


def measure_coverage(graph: Graph, optimized: ir.Model) -> Coverage:
    """Compare a graph with the form into which the runtime optimised it.

    Args:
        graph: The graph whose convolutions are counted.
        optimized: What the runtime made of its quantised form.
    """
    total = sum(node.op_type == "Conv" for node in graph.model.graph)
    nodes = list(optimized.graph)
    integer = sum(node.op_type in _INTEGER for node in nodes)
    left = tuple(node.name or "?" for node in nodes if node.op_type in _FLOAT)
    return Coverage(integer, total, left)
