"""The wire format of protobuf, read without a library: a device has none."""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and content of every field; numbers of fixed width count as empty bytes.

    Raises:
        ValueError: The bytes are no protobuf message.
    """
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
