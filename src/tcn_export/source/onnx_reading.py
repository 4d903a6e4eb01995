"""Reading an ONNX file from a stranger: bounded, and with no file but those beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from tcn_export.errors import CheckpointError

LARGEST = 2**31 - 1
"""Bytes of a file with its weights: protobuf takes no more, and neither does the artifact."""
_SAVE_WHOLE = "Save it as one file: onnx.save(model, path, save_as_external_data=False)."


def read_model(path: Path) -> tuple[onnx.ModelProto, str]:
    """Read a model with all of its weights.

    Args:
        path: The file. Weights outside of it must lie in its folder, or below.

    Returns:
        The model, and the sha256 of the file and of those that hold its weights.

    Raises:
        CheckpointError: It cannot be read, is damaged, or points to where it must not.
    """
    raw = _read(path, LARGEST)
    try:
        model = onnx.load_model_from_string(raw)
    except DecodeError as error:
        raise CheckpointError(
            f"{path} is not an ONNX model, or is damaged: {error}. Copy it again."
        ) from error
    digest = hashlib.sha256(raw)
    files: dict[Path, bytes] = {}
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            _bring_in(path, tensor, files, LARGEST - len(raw))
    for name in sorted(files):
        digest.update(files[name])
    return model, digest.hexdigest()


def _read(path: Path, most: int) -> bytes:
    try:
        size = path.stat().st_size
        if size <= most:
            return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    raise CheckpointError(
        f"{path} has {size:,} bytes; a model has at most {LARGEST:,}, with its weights."
    )


def _bring_in(path: Path, tensor: TensorProto, files: dict[Path, bytes], most: int) -> None:
    """Put the weights of a tensor that lie in another file into the tensor."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    location = told.get("location", "")
    folder = path.resolve().parent
    try:
        file = (folder / location).resolve()
        is_beside = bool(location) and file.is_relative_to(folder) and file.is_file()
    except (OSError, ValueError, RuntimeError):  # a name too long, a null in it, a loop
        is_beside = False
    if not is_beside:
        raise CheckpointError(
            f"{path} keeps `{tensor.name}` in {location!r}, which is no file in its folder. "
            f"Copy the weights beside it. {_SAVE_WHOLE}"
        )
    if file not in files:
        files[file] = _read(file, most - sum(map(len, files.values())))
    try:
        start = int(told.get("offset", 0))
        size = int(told.get("length", len(files[file]) - start))
        wanted = _size(tensor)
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is damaged: it does not say where `{tensor.name}` lies in {location!r} "
            f"({error}). {_SAVE_WHOLE}"
        ) from error
    if start < 0 or size != wanted or start + size > len(files[file]):
        raise CheckpointError(
            f"{path} keeps `{tensor.name}` in {location!r} at {start} to {start + size}; it "
            f"needs {wanted} bytes of the {len(files[file])} there. They do not belong "
            "together: copy both again."
        )
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.DEFAULT
    tensor.raw_data = files[file][start : start + size]


def _size(tensor: TensorProto) -> int:
    """Bytes of a tensor, by its shape and type."""
    size = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    for n in tensor.dims:
        size *= n
    return size


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    yield from _tensors_of(model.graph)
    for function in model.functions:
        yield from _attached(function.node)


def _tensors_of(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _attached(graph.node)


def _attached(nodes: Iterable[Any]) -> Iterator[TensorProto]:
    """Tensors in the attributes of nodes, and in the graphs in them."""
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors_of(graph)
