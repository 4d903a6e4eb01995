"""Whole signals that a stream is judged on, and which of the eager answers it reaches."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from tcn_export.data import Array
from tcn_export.errors import UnsupportedModelError
from tcn_export.graph import Signature
from tcn_export.options import ExportOptions
from tcn_export.parity.golden import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tcn_export.source.base import Source

Shapes = tuple[tuple[int, ...], ...]
"""Of the answers to one signal, without their batch."""

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
    ran = {}
    with warnings.catch_warnings():
        # A signal that ends before the first step of a mean has none, and is left out.
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        for steps in dict.fromkeys(n - n % hop for n in lengths if n >= hop):
            ran.update(probe.first_that_runs(steps))
    found = [steps for steps, shapes in ran.items() if _is_answered(shapes, signature)]
    if usual not in found:
        late = max(spec.delay for spec in signature.outputs)
        raise UnsupportedModelError(
            f"a signal of {usual} steps is too short to judge the stream on: its first answer "
            f"comes {late} steps late. Give a longer --length."
        )
    longest = max(found)
    found = [n for n in found if _is_alike(n, usual, longest, ran, signature)]
    return tuple(found)


def _is_answered(shapes: Shapes, signature: Signature) -> bool:
    """Whether a stream answers at least once at every output with steps."""
    return all(
        shape[spec.time_axis - 1] > spec.delay
        for shape, spec in zip(shapes, signature.outputs, strict=True)
        if spec.time_axis is not None
    )


def _is_alike(
    steps: int, usual: int, longest: int, ran: Mapping[int, Shapes], signature: Signature
) -> bool:
    """Whether a signal has as many answers as its steps ask for.

    A crop of more steps than there are leaves none, however many are cropped: to such a signal
    a network that shifts by a crop and a pad answers otherwise than to all longer ones.
    """
    for i, spec in enumerate(signature.outputs):
        if spec.time_axis is None:  # the last steps, of which a short signal has fewer
            if ran[steps][i] != ran[usual][i]:
                return False
            continue
        here, there, far = (ran[n][i][spec.time_axis - 1] for n in (steps, usual, longest))
        if (there - here) * (longest - usual) != (far - there) * (usual - steps):
            return False
    return True


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
