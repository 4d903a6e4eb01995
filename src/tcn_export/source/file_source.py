"""A network that came whole in a file, as a source: run, and found fit to be an oracle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from tcn_export.errors import UnsupportedModelError
from tcn_export.source.base import Kind, Source, Told
from tcn_export.source.file_signal import FileSignal
from tcn_export.source.foreign import described
from tcn_export.source.interface import find_interface
from tcn_export.source.probe import Probe, check_keeps, state_of

if TYPE_CHECKING:
    import onnx

_CHECK_IT = "Check the file with the tool that wrote it."


def source_from_file(
    path: Path,
    kind: Kind,
    sha256: str,
    module: nn.Module,
    signal: FileSignal,
    told: Told,
    writer: str,
    how_to_open: str,
    output_names: tuple[str, ...] | None = None,
    model: onnx.ModelProto | None = None,
) -> Source:
    """Run the network of a file, and find out what comes out of it.

    Args:
        path: The file.
        kind: Of the source.
        sha256: Of the file.
        module: Runs the network; no axis of it holds a fixed batch.
        signal: What the network takes.
        told: What the user says.
        writer: What wrote the file.
        how_to_open: How the user exports it again with a dynamic batch.
        output_names: What the answers are called; None names them after what they mean.
        model: Its graph, where it is one.

    Raises:
        UnsupportedModelError: It fails, or gives what cannot be exported.
    """
    who, steps = str(path), signal.steps
    is_nlc = signal.layout == "NLC"
    error = UnsupportedModelError
    probe = Probe(who, module.eval(), signal.channels, is_nlc, error, _CHECK_IT)
    before = state_of(module)
    notes: tuple[str, ...] = ()
    if signal.batch is not None:
        probe.check_apart(
            steps,
            f"In the file the batch is fixed at {signal.batch}: export it again with a "
            f"dynamic one ({how_to_open}). ",
        )
        notes = (f"the file's batch of {signal.batch} was opened; windows do not mix",)
    told = replace(told, input_shape=(signal.channels, steps), layout=signal.layout)
    found = find_interface(probe, told, signal.name, output_names, signal.is_fixed)
    check_keeps(who, module, before, error)
    probe = replace(probe, module=found.module, is_nlc=False)
    probe.check_repeats(found.length)
    check_keeps(who, module, before, error)
    found = replace(found, notes=(*notes, *found.notes))
    return Source(
        name=path.stem,
        path=path,
        kind=kind,
        sha256=sha256,
        **described(found, signal.channels, told.meaning),
        architecture="".join(c if c.isprintable() else "?" for c in writer),
        config={},
        training={},
        only_single=probe.why_only_single(found.length),
        model=model,
    )
