"""Which nodes of an ONNX model calculate with floats? Asked without the onnx package.

A runtime may leave the arithmetic of shapes on the CPU, where it belongs, but not that of
signals. What a node does is told by the types of what it reads. The numbers below
are those of onnx.proto3's fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tcn_export.targets.protobuf import fields

_GRAPH = 7
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 5, 11, 12, 13
_INT32, _INT64, _BOOL = 6, 7, 9  # what shapes and indices are calculated in


_OF_SHAPES = ("Shape", "Size")  # whatever they read, its values do not matter


@dataclass(slots=True)
class _Seen:
    """Type of every value, what every node reads and its operator, by its name."""

    types: dict[str, int] = field(default_factory=dict)
    nodes: dict[str, list[tuple[list[str], str]]] = field(default_factory=dict)


def integer_nodes(model: bytes) -> frozenset[str]:
    """Names of the nodes that read integers alone, or the shape of something.

    Such are Shape, everything on the way from it to a Reshape, and the Cast of a number of
    steps. A node counts as one only where all types it needs are known, and only where every
    node of its name is one.

    Raises:
        ValueError: The bytes are no ONNX model.
    """
    seen = _Seen()
    for graph in _messages(memoryview(model), _GRAPH):
        _read_graph(graph, seen)

    def are_integers(values: list[str]) -> bool:
        kinds = [seen.types.get(value) for value in values if value]
        return bool(kinds) and all(kind in (_INT32, _INT64, _BOOL) for kind in kinds)

    return frozenset(
        name
        for name, nodes in seen.nodes.items()
        if name
        and all(are_integers(reads) or operator in _OF_SHAPES for reads, operator in nodes)
    )


def _read_graph(graph: memoryview, seen: _Seen) -> None:
    for number, content in fields(graph):
        if not isinstance(content, memoryview):
            continue
        if number == _NODE:
            node = list(_messages_by_number(content))
            texts = {n: [_text(raw) for k, raw in node if k == n] for n in (1, 3, 4)}
            name, operator = ("".join(texts[n][:1]) for n in (3, 4))
            seen.nodes.setdefault(name, []).append((texts[1], operator))
        elif number == _INITIALIZER:
            kind = _first_number(content, 2)
            for raw in _messages(content, 8):
                seen.types[_text(raw)] = kind
        elif number in (_INPUT, _OUTPUT, _VALUE_INFO):
            for raw in _messages(content, 1):
                seen.types[_text(raw)] = _element_type(content)


def _element_type(value_info: memoryview) -> int:
    for kind in _messages(value_info, 2):
        for tensor in _messages(kind, 1):
            return _first_number(tensor, 1)
    return 0  # no tensor


def _first_number(message: memoryview, wanted: int) -> int:
    """The first number in a field; 0, an undefined type, where there is none."""
    for number, content in fields(message):
        if number == wanted and isinstance(content, int):
            return content
    return 0


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    return (raw for number, raw in _messages_by_number(message) if number == wanted)


def _messages_by_number(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    for number, content in fields(message):
        if isinstance(content, memoryview):
            yield number, content


def _text(raw: memoryview) -> str:
    return bytes(raw).decode("utf-8", "replace")
