"""A torch.export program (``.pt2``) as a source."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from tcn_export.errors import UnsupportedModelError
from tcn_export.graph import LONGEST, Dimension
from tcn_export.source.base import Source, Told
from tcn_export.source.file_signal import Move, settle
from tcn_export.source.file_source import source_from_file
from tcn_export.source.probe import check_weights
from tcn_export.source.program_module import Program, ProgramModule, Ref, Step
from tcn_export.source.program_operators import find_operator, is_aten, is_check, why_not
from tcn_export.source.program_reading import DTYPES, Archive, broken, integer
from tcn_export.source.program_values import read_argument, read_output
from tcn_export.source.user_code import border

_SYMBOL = re.compile(r"(?:Symbol\('(\w+)'.*|(\w+))")
_FLOAT = 7
_CHECK_IT = "Check the file with the tool that wrote it."
_SAME_AXES = re.compile(
    r"aten\.(abs|add|alias|clamp|clone|constant_pad_nd|contiguous|detach|div|dropout|elu|exp|gelu"
    r"|hardswish|leaky_relu|log|log1p|mul|neg|pad|pow|relu|relu6|sigmoid|silu|slice|sqrt|sub|tanh"
    r"|to|_to_copy)_?\.\w+"
)
_CHANNELS_FIRST = re.compile(
    r"aten\.(conv1d|conv_transpose1d|_?convolution|batch_norm|instance_norm|group_norm"
    r"|_native_batch_norm_legit_no_training|(adaptive_)?(avg|max)_pool1d)\.\w+"
)
_SWAPS: tuple[dict[str, Any], ...] = (
    {"dim0": 1, "dim1": 2}, {"dim0": -2, "dim1": -1}, {"dims": [0, 2, 1]},
)  # fmt: skip


def load_program(path: Path, told: Told) -> Source:
    """Read a program, and find out what goes in and what comes out.

    Args:
        path: The archive.
        told: What the user says; ``input_shape`` fixes what the program leaves open.

    Raises:
        CheckpointError: The file cannot be read, is damaged, or holds what could run code.
            Nothing in it was executed.
        UnsupportedModelError: The program cannot be exported; the message says why.
        UsageError: What was told contradicts the file, or does not suffice.
    """
    archive = Archive(path)
    entries, tensors = archive.program(), archive.tensors()
    with broken(path):
        module, graph = entries["graph_module"], entries["graph_module"]["graph"]
        signature = module["signature"]
        weights, signal = _inputs(path, signature["input_specs"])
        steps = tuple(_steps(path, graph["nodes"]))
        _check_keeps_weights(path, steps, weights)
        answers = _answers(path, signature["output_specs"], module["module_call_graph"])
        sizes, allowed = _sizes(path, graph["tensor_values"][signal], entries)
        writer = f"torch.export {entries['torch_version']}"
        values = {place: tensors[place] for place in weights}
        program = Program(str(path), signal, values, weights, steps, answers)
        network = ProgramModule(program)
        found = settle(path, signal, sizes, told, map(_move, steps), allowed)
    check_weights(str(path), network, UnsupportedModelError)
    axes = (found.channels, found.steps)
    shape = (found.batch or 1, *(axes if found.layout == "NCL" else axes[::-1]))
    with border(f"running `{path}` on {shape}", _CHECK_IT, UnsupportedModelError):
        network.check_size(shape)
    return source_from_file(
        path,
        "program",
        archive.sha256,
        network,
        found,
        told,
        writer,
        f"dynamic_shapes={{'{signal}': {{0: torch.export.Dim('batch')}}}}",
    )


def _inputs(path: Path, specs: list[Any]) -> tuple[dict[str, str], str]:
    """Path and name of every weight, and the name of the signal."""
    weights: dict[str, str] = {}
    signals: list[str] = []
    for spec in specs:
        ((kind, entry),) = spec.items()
        if kind == "user_input" and "as_tensor" in entry["arg"]:
            signals.append(str(entry["arg"]["as_tensor"]["name"]))
        elif kind in ("parameter", "buffer", "tensor_constant"):
            place = str(entry[f"{kind}_name"])
            if not _is_path(place):
                raise ValueError(f"{place[:40]!r} is no path of a weight")
            weights[place] = str(entry["arg"]["name"])
        elif kind != "constant_input":
            raise UnsupportedModelError(
                f"{path} takes a {kind.replace('_', ' ')} beside the signal; expected tensors "
                "only. Wrap the network in a module that fills it in, and export that."
            )
    if len(signals) != 1:
        raise UnsupportedModelError(
            f"{path} takes {len(signals)} tensors ({', '.join(signals) or 'none'}); expected "
            "one signal. Wrap it in a module that takes one signal and fills in the others."
        )
    return weights, signals[0]


def _sizes(
    path: Path, meta: Mapping[str, Any], entries: Mapping[str, Any]
) -> tuple[tuple[Dimension | None, ...], tuple[int, int]]:
    """The axes of the signal, and fewest and most steps that the program allows."""
    if meta["dtype"] != _FLOAT:
        raise UnsupportedModelError(
            f"the input of {path} is {DTYPES[meta['dtype']]}; expected torch.float32. Put the "
            "cast outside of the network."
        )
    sizes: list[Dimension | None] = []
    fewest, most = 1, LONGEST
    for axis, size in enumerate(meta["sizes"]):
        if "as_int" in size:
            sizes.append(integer(size["as_int"]))
            continue
        match = _SYMBOL.fullmatch(size["as_expr"]["expr_str"])
        symbol = (match[1] or match[2]) if match else None
        sizes.append(symbol)
        told = entries["range_constraints"].get(symbol)
        if axis and told:
            fewest = max(fewest, integer(told["min_val"] or 1))
            most = min(most, integer(told["max_val"] or most))
    return tuple(sizes), (fewest, most)


def _answers(path: Path, specs: list[Any], calls: list[Any]) -> dict[str, str]:
    """What the program gives, by its path in the structure that the network returned."""
    names: list[str | None] = []
    for spec in specs:
        ((kind, entry),) = spec.items()
        if kind != "user_output":
            changed = entry.get("buffer_name") or entry.get("user_input_name") or kind
            raise UnsupportedModelError(_changes(path, changed))
        ((form, value),) = entry["arg"].items()
        if form not in ("as_tensor", "as_none"):
            raise UnsupportedModelError(
                f"{path} answers with something that is no tensor ({form[3:]}). Return "
                "tensors only."
            )
        names.append(str(value["name"]) if form == "as_tensor" else None)
    root = next(call["signature"] for call in calls if call["fqn"] == "")
    paths = list(_paths(json.loads(root["out_spec"])[1], ""))
    if len(paths) != len(names):
        raise ValueError(f"{len(names)} answers in a structure of {len(paths)}")
    found = {p: name for p, name in zip(paths, names, strict=True) if name is not None}
    twice = [
        p for p, name in zip(paths, names, strict=True) if name not in (None, found.get(p))
    ]
    if twice:
        raise UnsupportedModelError(
            f"{path} answers with two tensors under `{twice[0]}`. Give the keys of its "
            "dictionaries names of their own, without dots."
        )
    return found


def _paths(spec: Mapping[str, Any], path: str) -> Iterator[str]:
    """The paths of the leaves of a structure; dictionaries by key, others by place."""
    if spec["type"] is None:
        yield path
        return
    inner = spec["children_spec"]
    keys = json.loads(spec["context"]) if isinstance(spec["context"], str) else None
    if not isinstance(keys, list) or len(keys) != len(inner):
        keys = range(len(inner))
    for key, one in zip(keys, inner, strict=True):
        yield from _paths(one, f"{path}.{key}" if path else str(key))


def _steps(path: Path, nodes: list[Any]) -> Iterator[Step]:
    for node in nodes:
        target = node["target"]
        if not isinstance(target, str):
            raise TypeError(f"{str(target)[:40]!r} is no name of an operator")
        if is_check(target):
            continue
        function = find_operator(target)
        if function is None:
            raise UnsupportedModelError(
                f"{path} calls `{str(target)[:60]}`, {why_not(target)}"
            )
        arguments = {
            str(entry["name"]) if is_aten(target) else str(i): read_argument(
                path, entry["arg"]
            )
            for i, entry in enumerate(node["inputs"])
        }
        if any(arguments.get(name) is True for name in ("training", "train")):
            raise UnsupportedModelError(
                f"`{target}` in {path} computes as in training. Call model.eval() before "
                "torch.export.export."
            )
        outputs = tuple(read_output(output) for output in node["outputs"])
        stack = str(node["metadata"].get("nn_module_stack", "")).rpartition(";")[2]
        scope = stack.split(",")[1] if stack.count(",") >= 2 else ""
        yield Step(function, arguments, outputs, scope if _is_path(scope) else "")


def _is_path(place: str) -> bool:
    """Whether modules and weights can have a path: printable names, dots between them."""
    return all(name and name.isprintable() for name in place.split("."))


def _check_keeps_weights(
    path: Path, steps: tuple[Step, ...], weights: Mapping[str, str]
) -> None:
    """Raise `UnsupportedModelError` where an operator writes into a weight."""
    places = {name: place for place, name in weights.items()}
    for step in steps:
        schema = getattr(step.function, "_schema", None)
        for formal in schema.arguments if schema is not None else ():
            given = step.arguments.get(formal.name)
            writes = formal.alias_info is not None and formal.alias_info.is_write
            if writes and isinstance(given, Ref) and given.name in places:
                raise UnsupportedModelError(_changes(path, places[given.name]))


def _changes(path: Path, place: str) -> str:
    return (
        f"{path} changes `{place}` while it runs; expected answers only. Call model.eval() "
        "before torch.export.export, and keep no state between calls."
    )


def _move(step: Step) -> Move:
    """What a step does to the axes of a signal."""
    name = str(step.function)
    reads = tuple(v.name for v in step.arguments.values() if isinstance(v, Ref))
    gives = step.outputs[0] if step.outputs and isinstance(step.outputs[0], str) else ""
    told = {key: v for key, v in step.arguments.items() if not isinstance(v, Ref)}
    kind: Literal["swap", "convolution", "same", "other"] = "other"
    if told in _SWAPS:
        kind = "swap"
    elif _CHANNELS_FIRST.fullmatch(name):
        kind = "convolution"
    elif _SAME_AXES.fullmatch(name):
        kind = "same"
    return Move(reads, gives, kind)
