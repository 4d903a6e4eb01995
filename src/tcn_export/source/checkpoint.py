"""The checkpoint of tcn-train: its format, writing it, and reading it from a stranger.

A file is hostile until it was read with ``weights_only=True`` and every field was checked. The
network is rebuilt on the meta device first, so that a forged configuration allocates nothing.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from tcn_export.data import are_names
from tcn_export.errors import CheckpointError
from tcn_export.files import write_bytes
from tcn_export.graph import BATCH, LENGTH, LONGEST, Signature, TensorSpec
from tcn_export.models import build
from tcn_export.source.base import INPUT, OUTPUTS, Source, Task
from tcn_export.source.safe_load import (
    find_state_dict,
    is_dense,
    load_weights_only,
    read_file,
)

FORMAT = "tcn-export-checkpoint"
# Schema history. 1: 2026-11-23, first.
SCHEMA = 1

FASTEST_HZ = 1e12
DEEPEST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint holds beside its format and schema; see `Source` for the fields."""

    architecture: str
    config: Mapping[str, Any]
    state_dict: Mapping[str, Tensor]
    channels: int
    length: int
    task: Task
    classes: tuple[str, ...] = ()
    sample_rate_hz: float | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically; equal contents give equal bytes.

    Raises:
        OutputError: The path cannot be written.
    """
    content = {
        "format": FORMAT,
        "schema": SCHEMA,
        "architecture": checkpoint.architecture,
        "config": dict(checkpoint.config),
        "state_dict": {k: v.detach().cpu().clone() for k, v in checkpoint.state_dict.items()},
        "input": {"channels": checkpoint.channels, "length": checkpoint.length},
        "task": checkpoint.task,
        "classes": list(checkpoint.classes),
        "sample_rate_hz": checkpoint.sample_rate_hz,
        "training": dict(checkpoint.training),
    }
    buffer = io.BytesIO()  # a file name would end up inside the archive
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def load_source(path: Path) -> Source:
    """Read a checkpoint and rebuild its network in eval mode.

    Raises:
        CheckpointError: The file is not such a checkpoint, is damaged, or holds values that
            cannot be used. Nothing in it was executed.
    """
    raw = read_file(path)
    content = load_weights_only(path, raw)
    checkpoint = _parse(path, content)
    module = _rebuild(path, checkpoint)
    normalize = module.get_submodule("normalize")
    return Source(
        name=path.stem,
        path=path,
        kind="checkpoint",
        sha256=hashlib.sha256(raw).hexdigest(),
        module=module,
        signature=_signature(checkpoint),
        length=checkpoint.length,
        task=checkpoint.task,
        classes=checkpoint.classes,
        sample_rate_hz=checkpoint.sample_rate_hz,
        center=normalize.get_buffer("mean").double().numpy()[:, 0],
        spread=1 / normalize.get_buffer("scale").double().numpy()[:, 0],
        architecture=checkpoint.architecture,
        config=checkpoint.config,
        training=checkpoint.training,
    )


def _parse(path: Path, content: dict[Any, Any]) -> Checkpoint:
    if content.get("format") != FORMAT:
        state = find_state_dict(content)
        if state is not None and "format" not in content:
            raise CheckpointError(
                f"{path} is a bare state dict of {len(state)} tensors: it does not say "
                "which network they belong to. Say it with --factory MODULE:NAME, a function "
                "of yours that makes the network, and --input-shape CHANNELS,LENGTH; or give "
                "a checkpoint written by tcn-train."
            )
        raise CheckpointError(
            f"{path} is not a checkpoint of tcn-export: its `format` is "
            f"{content.get('format')!r}, expected {FORMAT!r}. Train it with tcn-train."
        )
    schema = content.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise CheckpointError(
            f"{path} has the schema {schema!r}; this version reads {SCHEMA}. "
            "Use the version of tcn-export that wrote it, or train it again."
        )
    read = _Reader(path, content)
    shape = _Reader(path, read("input", dict), "input.")
    task = read("task", str)
    if task not in get_args(Task):
        raise CheckpointError(
            f"`task` in {path} is {task!r}; expected {' or '.join(OUTPUTS)}."
        )
    rate = read("sample_rate_hz", (float, int, type(None)))
    if rate is not None and not 0 < rate < FASTEST_HZ:
        raise CheckpointError(
            f"`sample_rate_hz` in {path} is {rate}; expected a positive number."
        )
    classes, training, config = (
        read("classes", list),
        read("training", dict),
        read("config", dict),
    )
    if not are_names(classes):
        raise CheckpointError(
            f"`classes` in {path} must hold different, printable names; found "
            f"{', '.join(map(repr, classes[:8]))}."
        )
    for name, value in (("training", training), ("config", config)):
        _check_plain(path, name, value)
    return Checkpoint(
        architecture=read("architecture", str),
        config=config,
        state_dict=read("state_dict", dict),
        channels=shape("channels", int),
        length=shape("length", int),
        task=task,
        classes=tuple(classes),
        sample_rate_hz=rate,
        training=training,
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads fields of a dictionary that may hold anything."""

    path: Path
    content: dict[Any, Any]
    prefix: str = ""

    def __call__(self, name: str, kind: type | tuple[type, ...]) -> Any:
        if name not in self.content:
            raise CheckpointError(
                f"{self.path} lacks the field `{self.prefix}{name}`. It is incomplete: train "
                "it again with tcn-train."
            )
        value = self.content[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise CheckpointError(
                f"`{self.prefix}{name}` in {self.path} is a {type(value).__name__}; expected "
                f"{kind.__name__ if isinstance(kind, type) else 'a number or nothing'}."
            )
        return value


def _check_plain(path: Path, name: str, value: object, depth: int = 0) -> None:
    """Raise `CheckpointError` unless ``value`` is what JSON can hold."""
    if depth > DEEPEST:
        raise CheckpointError(
            f"`{name[:40]}...` in {path} is nested more than {DEEPEST} deep. It is forged: "
            "train it again with tcn-train."
        )
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        for key, entry in value.items():
            _check_plain(path, f"{name}.{key}", entry, depth + 1)
    elif isinstance(value, list):
        for i, entry in enumerate(value):
            _check_plain(path, f"{name}[{i}]", entry, depth + 1)
    elif not isinstance(value, str | int | None) and not (
        isinstance(value, float) and math.isfinite(value)
    ):
        raise CheckpointError(
            f"`{name}` in {path} is a {type(value).__name__} that JSON cannot hold. Expected "
            "text, finite numbers, lists and dictionaries. Train it again with tcn-train."
        )


def _rebuild(path: Path, checkpoint: Checkpoint) -> nn.Module:
    try:
        with torch.device("meta"):
            module = build(checkpoint.architecture, checkpoint.config)
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} describes a network that cannot be built: {error}."
        ) from error
    _check_state(path, module, checkpoint)
    state = {name: value.detach() for name, value in checkpoint.state_dict.items()}
    module.load_state_dict(state, strict=True, assign=True)
    _check_sizes(path, checkpoint)
    return module.eval().requires_grad_(False)


def _check_state(path: Path, module: nn.Module, checkpoint: Checkpoint) -> None:
    expected, found = module.state_dict(), checkpoint.state_dict
    missing = [k for k in expected if k not in found]
    surplus = [str(k) for k in found if k not in expected]
    if missing or surplus:
        raise CheckpointError(
            f"the weights in {path} do not belong to its configuration: "
            + "; ".join(
                f"{len(names)} {what} "
                f"({', '.join(names[:3])}{' ...' if len(names) > 3 else ''})"
                for what, names in (("missing", missing), ("not expected", surplus))
                if names
            )
            + ". Train it again with tcn-train."
        )
    for name, want in expected.items():
        value = found[name]
        if not isinstance(value, Tensor) or not is_dense(value):
            raise CheckpointError(f"`{name}` in {path} is not a dense, contiguous tensor.")
        if value.shape != want.shape or value.dtype != want.dtype:
            raise CheckpointError(
                f"`{name}` in {path} is {value.dtype} of the shape {tuple(value.shape)}; its "
                f"configuration asks for {want.dtype} of the shape {tuple(want.shape)}."
            )
        bad = int((~torch.isfinite(value)).sum())
        if bad:
            raise CheckpointError(
                f"{bad} of {value.numel()} values of `{name}` in {path} are NaN or infinite: "
                "the training diverged. Train again with a smaller learning rate."
            )
    if not found["normalize.scale"].all():
        raise CheckpointError(
            f"`normalize.scale` in {path} holds zeros, which would blot channels out. "
            "Expected one over the deviation of each channel. Train it again with tcn-train."
        )


def _check_sizes(path: Path, checkpoint: Checkpoint) -> None:
    channels, outputs = checkpoint.config["in_channels"], checkpoint.config["outputs"]
    if checkpoint.channels != channels:
        raise CheckpointError(
            f"`input.channels` in {path} is {checkpoint.channels}, but the network takes "
            f"{channels} channels; they must be equal."
        )
    if not 1 <= checkpoint.length <= LONGEST:
        raise CheckpointError(
            f"`input.length` in {path} is {checkpoint.length}; expected 1 to {LONGEST:,}."
        )
    if checkpoint.task == "classification" and len(checkpoint.classes) != outputs:
        raise CheckpointError(
            f"{path} names {len(checkpoint.classes)} classes, but the network has {outputs} "
            "outputs; they must be equal."
        )


def _signature(checkpoint: Checkpoint) -> Signature:
    every = checkpoint.config.get("head") == "every"
    outputs = checkpoint.config["outputs"]
    return Signature(
        inputs=(TensorSpec(INPUT, "float32", (BATCH, checkpoint.channels, LENGTH), 2),),
        outputs=(
            TensorSpec(
                OUTPUTS[checkpoint.task],
                "float32",
                (BATCH, outputs, LENGTH) if every else (BATCH, outputs),
                2 if every else None,
            ),
        ),
    )
