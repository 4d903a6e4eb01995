"""Whole signals that a stream is judged on, and which of the eager answers it reaches."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tcn_export.data import Array
from tcn_export.errors import UnsupportedModelError
from tcn_export.graph import Signature
from tcn_export.options import ExportOptions
from tcn_export.parity.golden import Reference

if TYPE_CHECKING:
    from tcn_export.source.base import Source

_TIMES_AS_LONG = 4
"""Of the longest signal beside windows as the network was trained on."""


def stream_lengths(
    source: Source, signature: Signature, options: ExportOptions
) -> tuple[int, ...]:
    """Steps of the signals of the stress set, all whole hops; the usual ones first.

    From the first hop on, and longer than any window: as far as the eager model takes that.

    Args:
        source: Holds the eager model.
        signature: Of whole signals, with the delays of the stream.
        options: Hop and length.

    Raises:
        UnsupportedModelError: A window is too short for a single answer.
    """
    from tcn_export.source.probe import Probe

    hop, axis = options.steps_per_hop, signature.inputs[0].time_axis
    assert axis is not None
    given = signature.inputs[0].shape[axis]
    length = given if isinstance(given, int) else source.length
    if isinstance(options.length, int):
        length = options.length
    usual = max(length - length % hop, hop)
    if isinstance(given, int):
        lengths = [usual]
    else:
        lengths = [usual, hop, 2 * hop, usual // 2, _TIMES_AS_LONG * usual + hop]
        lengths += [hop * n for n in (3, 5, 8, 13)]
    probe = Probe(source.origin, source.module, source.channels)
    found: list[int] = []
    for steps in dict.fromkeys(n - n % hop for n in lengths if n >= hop):
        shapes = probe.first_that_runs(steps).get(steps, ())
        answered = [
            shape[spec.time_axis - 1] > spec.delay
            for shape, spec in zip(shapes, signature.outputs, strict=bool(shapes))
            if spec.time_axis is not None
        ]
        if shapes and all(answered):
            found.append(steps)
        elif steps == usual:
            late = max(spec.delay for spec in signature.outputs)
            raise UnsupportedModelError(
                f"a signal of {steps} steps is too short to judge the stream on: its first "
                f"answer comes {late} steps late. Give a longer --length."
            )
    return tuple(found)


def reached(reference: Reference, signature: Signature) -> Reference:
    """The eager model's answers, without those that a stream reaches only later."""
    delays = {s.name: (s.time_axis, s.delay) for s in signature.outputs if s.delay}
    if not delays:
        return reference

    def cut(name: str, value: Array) -> Array:
        axis, delay = delays.get(name, (None, 0))
        if axis is None:
            return value
        return value[(slice(None),) * axis + (slice(0, value.shape[axis] - delay),)]

    return replace(
        reference,
        float64={name: cut(name, value) for name, value in reference.float64.items()},
        float32={name: cut(name, value) for name, value in reference.float32.items()},
    )
