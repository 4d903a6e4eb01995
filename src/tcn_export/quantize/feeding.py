"""How signals run through a graph that is watched: as windows, or as streams.

A stream sees what no window does: hidden values that came of all its past. Its states are
carried from hop to hop, zeros at first, as on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tcn_export.data import BATCH_WINDOWS, Array
from tcn_export.errors import DataError
from tcn_export.graph import Graph

Signals = NDArray[np.float32]


class Feeding(Protocol):
    """Runs signals through sessions of one graph, again and again.

    Attributes:
        signals: (signals, channels, length).
        kept: Outputs of the graph that the next run needs: the states.
        count: Runs of one signal each that all of them take.
        noun: What one run takes, in messages.
    """

    signals: Signals
    kept: tuple[str, ...]
    count: int
    noun: str

    def run(
        self, session: Any, names: Sequence[str], most: int
    ) -> Iterator[tuple[int, list[Array]]]:
        """What a session gives for all signals, run by run.

        Args:
            session: An `onnxruntime.InferenceSession` with the inputs of the graph, and with
                ``kept`` among its outputs.
            names: The outputs that are wanted.
            most: So many signals at once, at most.

        Yields:
            For how many signals, and the outputs. The list is the caller's.
        """


class Windows:
    """Whole windows at once, each of them from nothing.

    Args:
        graph: Of a window.
        signals: (windows, channels, length).
    """

    kept: tuple[str, ...] = ()
    noun = "windows"

    def __init__(self, graph: Graph, signals: Signals) -> None:
        self.signals = signals
        self.count = len(signals)
        self._input = graph.signature.inputs[0].name

    def run(
        self, session: Any, names: Sequence[str], most: int
    ) -> Iterator[tuple[int, list[Array]]]:
        """See `Feeding.run`."""
        most = min(most, BATCH_WINDOWS)
        for start in range(0, len(self.signals), most):
            batch = np.ascontiguousarray(self.signals[start : start + most])
            yield len(batch), session.run(names, {self._input: batch})


class Streams:
    """Long signals hop by hop, their states carried along.

    Args:
        graph: Of one hop.
        signals: (streams, channels, steps). What is left behind the last whole hop is not
            used.

    Raises:
        DataError: They are shorter than a hop.
    """

    noun = "signals"

    def __init__(self, graph: Graph, signals: Signals) -> None:
        (spec,) = graph.signature.inputs
        assert spec.time_axis is not None
        self._input = spec.name
        self._hop = int(spec.shape[spec.time_axis])
        self._states = graph.signature.states
        self._hops = signals.shape[-1] // self._hop
        if not len(signals) or not self._hops:
            raise DataError(
                f"the signals that calibrate have the shape {signals.shape}, but a hop takes "
                f"{self._hop} steps. Give at least one signal that is longer than that."
            )
        self.signals = signals
        self.kept = tuple(pair.output for pair in self._states)
        self.count = len(signals) * self._hops

    def run(
        self, session: Any, names: Sequence[str], most: int
    ) -> Iterator[tuple[int, list[Array]]]:
        """See `Feeding.run`."""
        most = min(most, BATCH_WINDOWS)
        for start in range(0, len(self.signals), most):
            batch = self.signals[start : start + most]
            states = {
                pair.input: np.zeros(
                    [n if isinstance(n, int) else len(batch) for n in pair.shape], pair.dtype
                )
                for pair in self._states
            }
            for hop in range(self._hops):
                steps = slice(hop * self._hop, (hop + 1) * self._hop)
                chunk = np.ascontiguousarray(batch[..., steps])
                outputs = session.run([*names, *self.kept], {self._input: chunk, **states})
                presents = outputs[len(names) :]
                states = {
                    pair.input: present
                    for pair, present in zip(self._states, presents, strict=True)
                }
                del outputs[len(names) :]
                yield len(batch), outputs
