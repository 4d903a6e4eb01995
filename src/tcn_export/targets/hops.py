"""A stream in ONNX Runtime on the CPU: its buffers are made once, and a hop allocates nothing.

States never move. Where the graph writes a state only after it was read (`StatePair.in_place`)
one buffer is both; else two take turns, the one read and the other written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from tcn_export.data import Array
from tcn_export.errors import BundleError
from tcn_export.graph import BATCH, Dimension, Signature
from tcn_export.targets.base import check_feeds, symbol_sizes
from tcn_export.targets.session import RUNTIME_ERRORS, cannot, open_on_cpu
from tcn_export.targets.states import check_restored, check_same_streams, resolve_shape

_TYPES = {
    "float16": "tensor(float16)", "float32": "tensor(float)", "float64": "tensor(double)",
    "int8": "tensor(int8)", "uint8": "tensor(uint8)", "int32": "tensor(int32)",
    "int64": "tensor(int64)",
}  # fmt: skip
"""What ONNX Runtime calls them, by the names of numpy."""


class HopRunner:
    """Runs the model of one hop, and carries its states.

    Args:
        model: The serialised model.
        signature: What a hop takes and gives.
        threads: Threads within an operator; 0 takes all cores.

    Raises:
        BundleError: The runtime does not accept the model.
    """

    def __init__(self, model: bytes, signature: Signature, threads: int = 0) -> None:
        self.signature = signature
        self._session = open_on_cpu(model, signature, threads)
        _check_buffers(self._session, signature)
        self._buffers: _Buffers | None = None
        self._turn = 0
        self._has_begun = False

    def reset(self) -> None:
        """Forget the states; see `Runner.reset`."""
        self._has_begun = False

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs, by name; see `Runner.run`."""
        check_feeds(self.signature, feeds)
        streams = symbol_sizes(self.signature, feeds).get(BATCH, 1)
        self.prepare(streams)
        return {name: np.array(value) for name, value in self.step(feeds).items()}

    def prepare(self, streams: int) -> None:
        """Make the buffers for so many streams, and begin with zeros unless one goes on.

        Raises:
            DataError: The states carried so far belong to another number of streams.
        """
        if self._buffers is None or self._buffers.streams != streams:
            if self._buffers is not None and self._has_begun:
                sizes = {BATCH: streams}
                asked = {p.input: resolve_shape(p, sizes) for p in self.signature.states}
                check_same_streams(asked, self._buffers.shapes())
            self._buffers = _Buffers.of(self._session, self.signature, streams)
        if not self._has_begun:
            self._buffers.clear()
            self._turn = 0
            self._has_begun = True

    def step(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Compute one hop without checks; the answers are overwritten by the next one.

        Args:
            feeds: What `check_feeds` accepts, for the streams that `prepare` was told of.
        """
        buffers = self._buffers
        assert buffers is not None
        for name, buffer in buffers.inputs.items():
            np.copyto(buffer, feeds[name])
        try:
            self._session.run_with_iobinding(buffers.bindings[self._turn])
        except (*RUNTIME_ERRORS, RuntimeError) as error:  # with bound buffers it has no class
            raise cannot("run", error) from error
        self._turn = (self._turn + 1) % len(buffers.bindings)
        return buffers.outputs

    def states(self) -> dict[str, Array]:
        """A copy of the states, by name of the input that the next hop finds them under."""
        assert self._buffers is not None
        return {k: np.array(v) for k, v in self._buffers.banks[self._turn].items()}

    def restore(self, states: Mapping[str, Array]) -> None:
        """Go on from states that were saved.

        Raises:
            DataError: They are of another model, or another number of streams.
        """
        assert self._buffers is not None
        banks = self._buffers.banks[self._turn]
        check_restored(banks, states)
        for name, buffer in banks.items():
            np.copyto(buffer, states[name])
        self._has_begun = True


@dataclass(frozen=True, slots=True)
class _Buffers:
    """Arrays that ONNX Runtime reads and writes, for so many streams."""

    streams: int
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    banks: tuple[Mapping[str, Array], ...]
    bindings: tuple[Any, ...]

    @classmethod
    def of(cls, session: Any, signature: Signature, streams: int) -> _Buffers:
        sizes = {BATCH: streams}

        def sized(shape: tuple[Dimension, ...]) -> list[int]:
            return [n if isinstance(n, int) else sizes[n] for n in shape]

        inputs = {s.name: _value(sized(s.shape), s.dtype) for s in signature.inputs}
        outputs = {s.name: _value(sized(s.shape), s.dtype) for s in signature.outputs}
        one = {
            p.input: _value(list(resolve_shape(p, sizes)), p.dtype) for p in signature.states
        }
        other = {
            p.input: one[p.input]
            if p.in_place
            else _value(list(resolve_shape(p, sizes)), p.dtype)
            for p in signature.states
        }
        turns = [(one, other)]
        if not all(pair.in_place for pair in signature.states):
            turns.append((other, one))
        bindings = []
        for read, written in turns:
            binding = session.io_binding()
            for name, value in (inputs | read).items():
                binding.bind_ortvalue_input(name, value)
            for name, value in outputs.items():
                binding.bind_ortvalue_output(name, value)
            for pair in signature.states:
                binding.bind_ortvalue_output(pair.output, written[pair.input])
            bindings.append(binding)
        return cls(
            streams,
            _arrays(inputs),
            _arrays(outputs),
            tuple(_arrays(read) for read, _ in turns),
            tuple(bindings),
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the states, by name."""
        return {name: array.shape for name, array in self.banks[0].items()}

    def clear(self) -> None:
        """Zeros, as before the first sample."""
        for bank in self.banks:
            for array in bank.values():
                array[...] = 0


def _check_buffers(session: Any, signature: Signature) -> None:
    """Raise `BundleError` where the model takes or gives other arrays than a hop's buffers."""
    states = signature.states
    wanted: dict[str, tuple[str, tuple[Dimension, ...]]] = {
        **{spec.name: (spec.dtype, spec.shape) for spec in signature.inputs},
        **{spec.name: (spec.dtype, spec.shape) for spec in signature.outputs},
        **{pair.input: (pair.dtype, pair.shape) for pair in states},
        **{pair.output: (pair.dtype, pair.shape) for pair in states},
    }
    for made in (*session.get_inputs(), *session.get_outputs()):
        dtype, shape = wanted.get(made.name, ("", ()))
        alike = len(shape) == len(made.shape) and all(
            n == m if isinstance(m, int) else isinstance(n, str) or m is None
            for n, m in zip(shape, made.shape, strict=True)
        )
        if not dtype or not alike or made.type != _TYPES.get(dtype):
            told = f"{dtype} of the shape {shape}" if dtype else "nothing of it"
            raise BundleError(
                f"the model has `{made.name}` as {made.type} of the shape "
                f"{tuple(made.shape)}, and the manifest says {told}. It was altered; export "
                "it again."
            )


def _value(shape: list[int], dtype: str) -> Any:
    return ort.OrtValue.ortvalue_from_shape_and_type(shape, np.dtype(dtype).type, "cpu")


def _arrays(values: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays of buffers on the CPU: no copies, what is written there is read there."""
    return {name: value.numpy() for name, value in values.items()}
