"""How a foreign network is fed and read: which axis is which, and what its answers are called.

It is run at several batches and lengths; what follows the batch and the length is read off the
shapes of its answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from tcn_export.errors import ExportError, UsageError
from tcn_export.graph import BATCH, LENGTH, Dimension, Signature, TensorSpec
from tcn_export.source.adapter import Adapter
from tcn_export.source.base import INPUT, OUTPUTS, Told
from tcn_export.source.probe import Probe, Shapes

_TURNED = "the network takes (batch, steps, channels), the artifact (batch, channels, steps)"
_BOTH_WAYS = (
    "the network runs both ways; taken as (batch, channels, steps); --input-layout NLC says "
    "otherwise"
)
_NOT_IN_A_NAME = re.compile(r"[^\w.:-]")


@dataclass(frozen=True, slots=True)
class Interface:
    """A network that takes (batch, channels, steps) and gives tensors, the answer first.

    Attributes:
        module: The user's network, in an `Adapter` where it has other habits.
        signature: What it takes and gives.
        length: Steps of the window that is exported.
        notes: What was found out that the user should know.
    """

    module: nn.Module
    signature: Signature
    length: int
    notes: tuple[str, ...]


def find_interface(
    probe: Probe,
    told: Told,
    input_name: str = INPUT,
    output_names: tuple[str, ...] | None = None,
    is_fixed: bool = False,
) -> Interface:
    """Find out how a network is fed and read.

    Args:
        probe: Holds the network as the user made it.
        told: What the user says; ``input_shape`` is needed.
        input_name: What the signal is called.
        output_names: What the answers are called; None names them after what they mean.
        is_fixed: The network came with one length, and stands for no other.

    Raises:
        ExportError: The network fails, or gives what cannot be exported.
    """
    assert told.input_shape is not None
    first = told.input_shape[1]
    probe, notes = _with_layout(probe, told, first)
    paths = tuple(probe.answers(probe.module, probe.noise(1, first)))
    names, order = _names(probe.who, paths, output_names, told, input_name)
    shapes = _shapes(probe, told, first, is_fixed)
    if len({len(found) for found in shapes.values()}) > 1:
        raise probe.error(
            f"`{probe.who}` answers with {' and '.join(str(len(s)) for s in shapes.values())} "
            f"tensors at {' and '.join(map(str, shapes))} steps; expected always as many."
        )
    steps = told.length or first
    turned = tuple(
        probe.is_nlc
        and len(shapes[steps][i]) == 2
        and all(found[i][0] == n for n, found in shapes.items())
        for i in order
    )
    module = probe.module
    if probe.is_nlc or paths != ("",):
        module = Adapter(module, probe.is_nlc, order, turned)
    outputs = tuple(
        _output(
            probe,
            names[i],
            {n: found[i][::-1] if turn else found[i] for n, found in shapes.items()},
            steps,
            told.is_dynamic,
        )
        for i, turn in zip(order, turned, strict=True)
    )
    window = (BATCH, told.input_shape[0], LENGTH if len(shapes) > 1 else steps)
    signature = Signature((TensorSpec(input_name, "float32", window, 2),), outputs)
    return Interface(module, signature, steps, notes)


def _with_layout(probe: Probe, told: Told, steps: int) -> tuple[Probe, tuple[str, ...]]:
    """Settle which axis of the signal is time: as told, or by what runs."""
    if told.layout == "NCL":
        return probe, ()
    if told.layout == "NLC":
        return replace(probe, is_nlc=True), (_TURNED,)
    try:
        probe.answers(probe.module, probe.noise(1, steps))
    except probe.error as error:
        other = replace(probe, is_nlc=True)
        if probe.channels == steps or not _runs(other, steps):
            raise
        # Channels are what a network is made for, steps it takes as they come.
        if _runs(other, 2 * steps + 1):
            return other, (f"{_TURNED} (found by running it)",)
        raise probe.error(
            f"`{probe.who}` does not run on (batch, {probe.channels}, {steps}), but on "
            f"(batch, {steps}, {probe.channels}). Give --input-shape {steps},{probe.channels} "
            f"if it takes {steps} channels, or --input-layout NLC if it takes (batch, steps, "
            "channels)."
        ) from error
    if probe.channels == steps and _runs(replace(probe, is_nlc=True), 2 * steps + 1):
        if not _runs(probe, 2 * steps + 1):
            found = f"{_TURNED} (found by running it; --input-layout NCL says otherwise)"
            return replace(probe, is_nlc=True), (found,)
        return probe, (_BOTH_WAYS,)
    return probe, ()


def _runs(probe: Probe, steps: int) -> bool:
    try:
        probe.answers(probe.module, probe.noise(1, steps))
    except ExportError:
        return False
    return True


def _names(
    who: str,
    paths: tuple[str, ...],
    given: tuple[str, ...] | None,
    told: Told,
    input_name: str,
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """What the answers are called, and in which order they are given: the answer first."""
    names = given or tuple(_NOT_IN_A_NAME.sub("_", path) for path in paths)
    if told.answer is None:
        first = names.index(OUTPUTS[told.meaning]) if OUTPUTS[told.meaning] in names else 0
    elif told.answer in (*names, *paths):
        first = (*names, *paths).index(told.answer) % len(names)
    else:
        raise UsageError(
            f"--answer {told.answer}: `{who}` answers with {', '.join(names) or 'a tensor'}. "
            "Name one of these, or leave --answer out."
        )
    order = (first, *(i for i in range(len(names)) if i != first))
    if given is not None:
        return names, order
    plain = tuple(
        (OUTPUTS[told.meaning] if i == first and name in ("", str(i)) else f"output_{name}")
        if not name or name[0].isdigit()
        else name
        for i, name in enumerate(names)
    )
    return tuple(_free(name, (input_name, *plain[:i])) for i, name in enumerate(plain)), order


def _free(name: str, taken: tuple[str, ...]) -> str:
    """``name``, or ``name_2`` and so on where that is taken."""
    unique, n = name, 2
    while unique in taken:
        unique, n = f"{name}_{n}", n + 1
    return unique


def _shapes(probe: Probe, told: Told, first: int, is_fixed: bool) -> dict[int, Shapes]:
    """Shapes of the answers by length: that of the export, and others to compare."""
    steps = told.length or first
    shape = probe.shapes_at(first)
    if steps != first:
        return {steps: probe.shapes_at(steps, "--length asks for it. "), first: shape}
    if is_fixed:
        return {steps: shape}
    if told.is_dynamic:
        lengths = (2 * steps + 1, max(steps // 2, 2))
        advice = "--length dynamic asks for any. "
        return {steps: shape, **{n: probe.shapes_at(n, advice) for n in lengths}}
    others = probe.first_that_runs(2 * steps + 1, 2 * steps, max(steps // 2, 2))
    return {steps: shape, **others}


def _output(
    probe: Probe,
    name: str,
    shapes: Mapping[int, tuple[int, ...]],
    steps: int,
    is_dynamic: bool,
) -> TensorSpec:
    """Tell outputs from steps by the shapes of an answer at several lengths."""
    if len({len(shape) for shape in shapes.values()}) > 1:
        raise probe.error(
            f"`{probe.who}` answers with {' and '.join(map(str, shapes.values()))} at "
            f"{' and '.join(map(str, shapes))} steps; expected one kind of answer."
        )
    here = shapes[steps]
    follows = [all(shape[i] == n for n, shape in shapes.items()) for i in range(len(here))]
    if follows[0] and len(here) == 2 and len(shapes) > 1 and not follows[1]:
        raise probe.error(
            f"`{probe.who}` answers with (batch, steps, outputs) in `{name}`; expected "
            "(batch, outputs, steps). End it with `.transpose(1, 2)`."
        )
    per_step = len(here) == 2 and follows[1]
    fixed = here[:1] if per_step else here
    if is_dynamic and any(shape[: len(fixed)] != fixed for shape in shapes.values()):
        raise probe.error(
            f"`{probe.who}` answers with {', '.join(map(str, shapes.values()))} at "
            f"{', '.join(map(str, shapes))} steps. With --length dynamic an answer has as "
            "many steps as the signal, or the same size always. Give a number as --length."
        )
    symbol: Dimension = LENGTH if len(shapes) > 1 else steps
    dimensions: tuple[Dimension, ...] = (BATCH, *fixed, *((symbol,) if per_step else ()))
    return TensorSpec(name, "float32", dimensions, 2 if per_step else None)
