"""What a built engine really computes in: integers, float16 or float32, by convolution.

A Q/DQ graph asks for integer arithmetic; whether the builder gives it shows in its own account
of the layers. Two accounts are read: the engine inspector's JSON, of TensorRT 10 (datatype
within ``Format/Datatype``) and 11 (``Datatype`` apart), and the list that the builder prints
where there is no device to load the engine on.

Part of ``build_engine.py``: Python 3.8, standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_TYPES = (("int8", "int8"), ("half", "float16"), ("fp16", "float16"), ("float", "float32"),
          ("fp32", "float32"))  # fmt: skip
_CONVOLVES = re.compile(r"conv|correlation|fusion|gemm", re.IGNORECASE)
_OPERATORS = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f\[,]|$)")
_PRINTED = re.compile(
    r"Name: (.*?), LayerType: (\w+), Inputs: (.*?), Constants: (.*?), Outputs: "
)
_DATATYPE = re.compile(r"Datatype: (\w+)")


@dataclass(frozen=True)
class Kernel:
    """One kernel of an engine.

    Attributes:
        name: The builder's.
        kind: The builder's word for what it does.
        inputs: Type of each input.
        weights: Type of each constant.
        operators: Names of the ONNX nodes that it computes, or part of them.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    weights: tuple[str, ...]
    operators: tuple[str, ...]


def kernels_of_engine(trt: Any, engine: Any, context: Any) -> list[Kernel]:
    """The kernels of a loaded engine, from its inspector.

    Where shapes are dynamic, TensorRT 10 tells of formats only with an execution context whose
    shapes are set.
    """
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    return read_inspector(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def read_inspector(text: str) -> list[Kernel]:
    """Read the inspector's JSON, of either generation; nothing where it is none."""
    try:
        entries = json.loads(text, strict=False).get("Layers", [])
    except (ValueError, AttributeError):
        return []  # an account is worth having, but no engine depends on it
    return [_from_json(entry) for entry in entries if isinstance(entry, dict)]


def read_printed(text: str) -> list[Kernel]:
    """Read the list that a builder prints with detailed profiling verbosity."""
    return [
        Kernel(
            match.group(1),
            match.group(2),
            tuple(map(_type, _DATATYPE.findall(match.group(3)))),
            tuple(map(_type, _DATATYPE.findall(match.group(4)))),
            tuple(_OPERATORS.findall(line)),
        )
        for line in text.splitlines()
        for match in [_PRINTED.match(line)]
        if match is not None
    ]


def convolution_types(kernels: Iterable[Kernel], names: Iterable[str]) -> dict[str, str]:
    """The arithmetic of each convolution, by the name of its ONNX node.

    ``int8`` means integer inputs and integer weights; a convolution that no kernel tells of is
    ``unknown``.
    """
    kernels = list(kernels)
    return {name: _arithmetic(kernels, name) for name in names}


def count_reformats(kernels: Iterable[Kernel]) -> int:
    """How many kernels only move data into another layout."""
    return sum("reformat" in kernel.kind.lower() for kernel in kernels)


def _arithmetic(kernels: list[Kernel], name: str) -> str:
    for kernel in kernels:
        if name in kernel.operators and _CONVOLVES.search(kernel.kind) and kernel.weights:
            kinds = {*kernel.inputs[:1], kernel.weights[0]} - {"unknown"}
            if len(kinds) == 1:  # the network is strongly typed: one side tells of the other
                return kinds.pop()
            return "mixed" if kinds else "unknown"
    return "unknown"


def _from_json(entry: dict[str, Any]) -> Kernel:
    weights = [entry["Weights"]] if isinstance(entry.get("Weights"), dict) else []
    constants = [c for c in entry.get("Constants", []) if isinstance(c, dict)]
    return Kernel(
        str(entry.get("Name", "")),
        f"{entry.get('LayerType', '')} {entry.get('ParameterType', '')}".strip(),
        tuple(_type_of(tensor) for tensor in entry.get("Inputs", [])),
        tuple(_type_of(tensor) for tensor in weights + constants),
        tuple(_OPERATORS.findall(str(entry.get("Metadata", "")))),
    )


def _type_of(tensor: dict[str, Any]) -> str:
    for key in ("Datatype", "Type", "Format/Datatype", "Format"):
        if key in tensor and _type(str(tensor[key])) != "unknown":
            return _type(str(tensor[key]))
    return "unknown"


def _type(word: str) -> str:
    lower = word.lower()
    return next((name for mark, name in _TYPES if mark in lower), "unknown")
