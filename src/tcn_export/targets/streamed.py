"""Whole signals, run through a stream hop by hop: what the network answers to all of them.

Part of ``build_engine.py``: Python 3.8, numpy and the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tcn_export.errors import DataError

if TYPE_CHECKING:
    from tcn_export.data import Array
    from tcn_export.graph import Signature, TensorSpec
    from tcn_export.targets.base import Runner
_TOLD = 256
"""Hops between two reports of progress."""


class StreamedRunner:
    """A runner of whole signals on top of one that takes a hop of them.

    Every run begins anew. Answers at every step lack those that the signal is too short for:
    the last ``delay`` ones. Of answers that a stream gives once per hop it is the last one.
    Of more signals than ``runner.most_streams``, where it has that, some run after the others.

    Args:
        runner: Takes one hop, and carries the states.
        signature: Of one hop.
    """

    def __init__(self, runner: Runner, signature: Signature) -> None:
        self.runner = runner
        self.signature = signature
        self.advance: Callable[[int], object] = int
        """Told of hops that were run; nobody listens unless told to."""

    def reset(self) -> None:
        """Forget the states; see `Runner.reset`."""
        self.runner.reset()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs, by name; see `Runner.run`."""
        hops = count_hops(self.signature, feeds)
        signals = len(next(iter(feeds.values())))
        most = getattr(self.runner, "most_streams", signals)
        parts = [
            self._run({n: array[start : start + most] for n, array in feeds.items()}, hops)
            for start in range(0, max(signals, 1), most or 1)
        ]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run(self, feeds: Mapping[str, Array], hops: int) -> dict[str, Array]:
        self.runner.reset()
        # The first hop is checked; after it the others are known to fit.
        first = self.runner.run(chunks(self.signature, feeds, 0))
        step = getattr(self.runner, "step", self.runner.run)
        whole = [_Whole(spec, first[spec.name], hops) for spec in self.signature.outputs]
        for hop in range(1, hops):
            given = step(chunks(self.signature, feeds, hop))
            for values in whole:
                values.take(hop, given)
            if hop % _TOLD == 0:
                self.advance(_TOLD)
        self.advance(hops - (hops - 1) // _TOLD * _TOLD)
        return {values.name: values.reached() for values in whole}


class _Whole:
    """An output of all hops, in memory that is taken once."""

    def __init__(self, spec: TensorSpec, first: Array, hops: int) -> None:
        self.name = spec.name
        self._axis = spec.time_axis
        self._delay = spec.delay
        self._values = first
        if self._axis is not None:
            shape = list(first.shape)
            shape[self._axis] *= hops
            self._values = np.empty(shape, first.dtype)
            self.take(0, {self.name: first})

    def take(self, hop: int, given: Mapping[str, Array]) -> None:
        """Keep the answer to a hop; of answers without steps the last one stays."""
        value = given[self.name]
        if self._axis is None:
            self._values = value
            return
        size = value.shape[self._axis]
        steps = slice(hop * size, (hop + 1) * size)
        self._values[(slice(None),) * self._axis + (steps,)] = value

    def reached(self) -> Array:
        """The answers, without those before step 0."""
        if self._axis is None:
            return np.array(self._values)
        return self._values[(slice(None),) * self._axis + (slice(self._delay, None),)]


def join_hops(
    signature: Signature, outputs: Sequence[Mapping[str, Array]]
) -> dict[str, Array]:
    """The answers to several hops: their steps joined; without steps the last ones."""
    return {
        spec.name: outputs[-1][spec.name]
        if spec.time_axis is None
        else np.concatenate([given[spec.name] for given in outputs], axis=spec.time_axis)
        for spec in signature.outputs
    }


def count_hops(signature: Signature, feeds: Mapping[str, Array]) -> int:
    """How many hops signals make.

    Raises:
        DataError: They are no whole number of hops, or not equally many.
    """
    counts = set()
    for spec in signature.inputs:
        if spec.time_axis is None or spec.name not in feeds:
            continue
        array, hop = feeds[spec.name], spec.shape[spec.time_axis]
        steps = array.shape[spec.time_axis] if array.ndim == len(spec.shape) else 0
        if steps == 0 or steps % int(hop):
            raise DataError(
                f"the input `{spec.name}` has the shape {array.shape}; a stream takes any "
                f"multiple of its hop of {hop} steps on axis {spec.time_axis}."
            )
        counts.add(steps // int(hop))
    if len(counts) != 1:
        raise DataError("the inputs disagree on the number of steps.")
    return int(counts.pop())


def chunks(signature: Signature, feeds: Mapping[str, Array], hop: int) -> dict[str, Array]:
    """What the inputs are in one hop; an input without a time axis is the same in all."""
    given = dict(feeds)
    for spec in signature.inputs:
        if spec.time_axis is None:
            continue
        size = int(spec.shape[spec.time_axis])
        index = [slice(None)] * len(spec.shape)
        index[spec.time_axis] = slice(hop * size, (hop + 1) * size)
        given[spec.name] = feeds[spec.name][tuple(index)]
    return given
