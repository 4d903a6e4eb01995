"""Does an ONNX model point to weights outside itself? Asked without the onnx package.

A runtime would read such weights from wherever it was started: no hash covers them.
Walks the protobuf wire format down to the tensors (onnx.proto3: TensorProto has the fields
``external_data`` = 13 and ``data_location`` = 14). Every nested message on the way is listed;
other fields are skipped by their length.
"""

from __future__ import annotations

from tcn_export.targets.protobuf import fields

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


def has_external_data(model: bytes) -> bool:
    """Whether any tensor of a serialised model lies outside of it.

    Raises:
        ValueError: The bytes are no protobuf message.
    """
    return _message_has(memoryview(model), "Model", 0)


def _message_has(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError(f"its messages are nested more than {_DEEPEST} deep")
    for number, content in fields(message):
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
