"""Which kind of network the user gave, and the file that reads it."""

from __future__ import annotations

from pathlib import Path

from tcn_export.errors import UsageError
from tcn_export.source.base import Kind, Source, Told

PROGRAM, ONNX, SAFETENSORS = ".pt2", ".onnx", ".safetensors"
_WHOLE = {PROGRAM: "a torch.export program", ONNX: "an ONNX model"}


def kind_of(model: Path | None, told: Told) -> Kind:
    """Tell the kind by the file's name and by what was told, without opening it.

    Raises:
        UsageError: They do not go together; the message says which option is too many or
            missing.
    """
    if model is None:
        if told.factory is None:
            raise UsageError(
                "nothing to export: give MODEL (a checkpoint of tcn-train, .onnx, .pt2), or "
                "--factory MODULE:NAME with --input-shape CHANNELS,LENGTH."
            )
        return "factory"
    suffix = model.suffix.lower()
    if suffix in _WHOLE:
        for option, value in (("factory", told.factory), ("factory-args", told.arguments)):
            if value is not None:
                raise UsageError(
                    f"--{option} was given for {model}: {_WHOLE[suffix]} is a whole network "
                    "and needs none. Leave it out."
                )
        return "program" if suffix == PROGRAM else "onnx"
    if told.factory is not None:
        return "weights"
    if suffix == SAFETENSORS:
        raise UsageError(
            f"{model} holds weights, but not the network they belong to. Say it with "
            "--factory MODULE:NAME and --input-shape CHANNELS,LENGTH."
        )
    for option, is_given in (
        ("factory-args", told.arguments is not None),
        ("input-shape", told.input_shape is not None),
        ("input-layout", told.layout is not None),
        ("task", told.task is not None),
        ("answer", told.answer is not None),
    ):
        if is_given:
            raise UsageError(
                f"--{option} belongs to --factory, or to an .onnx or .pt2 file: a checkpoint "
                "of tcn-train tells it itself. Leave it out."
            )
    return "checkpoint"


def read_source(model: Path | None, told: Told) -> Source:
    """Read a network.

    Args:
        model: Its file; None where a factory makes it, weights and all.
        told: What the user says of it.

    Raises:
        ExportError: It cannot be read, or cannot be exported.
    """
    kind = kind_of(model, told)
    if kind == "checkpoint":
        from tcn_export.source.checkpoint import load_source

        assert model is not None
        return load_source(model)
    if kind == "program":
        from tcn_export.source.program import load_program

        assert model is not None
        return load_program(model, told)
    if kind == "onnx":
        from tcn_export.source.onnx_file import load_onnx

        assert model is not None
        return load_onnx(model, told)
    from tcn_export.source.foreign import load_factory

    assert told.factory is not None
    assert told.input_shape is not None
    return load_factory(
        told.factory, told.input_shape, told.meaning, told.arguments, told.length,
        told.is_dynamic, model, told.layout, told.answer,
    )  # fmt: skip
