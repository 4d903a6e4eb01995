"""Does an ONNX model point to weights outside itself? Asked without the onnx package.

A runtime would read such weights from wherever it was started: no hash covers them.
Walks the protobuf wire format down to the tensors (onnx.proto3: TensorProto has the fields
``external_data`` = 13 and ``data_location`` = 14). Every nested message on the way is listed;
other fields are skipped by their length.
"""

from __future__ import annotations

from collections.abc import Iterator

_TENSOR = "Tensor"
_NESTED: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Graph": {1: "Node", 5: _TENSOR, 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: _TENSOR, 6: "Graph", 10: _TENSOR, 11: "Graph",
        22: "SparseTensor", 23: "SparseTensor",
    },
    "SparseTensor": {1: _TENSOR, 2: _TENSOR},
    "Function": {7: "Node", 11: "Attribute"},
    "Training": {1: "Graph", 2: "Graph"},
}  # fmt: skip
_EXTERNAL = {13, 14}
_DEEPEST = 100  # protobuf's own limit
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def has_external_data(model: bytes) -> bool:
    """Whether any tensor of a serialised model lies outside of it.

    Raises:
        ValueError: The bytes are no protobuf message.
    """
    return _message_has(memoryview(model), "Model", 0)


def _message_has(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError(f"its messages are nested more than {_DEEPEST} deep")
    for number, content in _fields(message):
        if kind == _TENSOR:
            if number in _EXTERNAL and content not in (b"", 0):
                return True
        elif (
            isinstance(content, memoryview)
            and number in _NESTED[kind]
            and _message_has(content, _NESTED[kind][number], depth + 1)
        ):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and content of every field; numbers of fixed width count as empty bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        if not 8 <= key < 2**32:  # readers cut longer keys off, and would see another field
            raise ValueError(f"a field number out of range at byte {position}")
        kind, content = key & 7, message[:0]
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, position = _varint(message, position)
            content = message[position : position + size]
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} at byte {position}")
        position += size
        if position > len(message):
            raise ValueError("a field reaches beyond the end")
        yield key >> 3, content


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"an unfinished number at byte {position}")
