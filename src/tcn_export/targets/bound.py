"""Runs a session of ONNX Runtime on buffers of a device, which keep their addresses.

Inputs are copied in, outputs are copied out, and states never leave the device: two banks of
buffers take turns, the one read and the other written. One buffer is never bound as both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import onnxruntime as ort

from tcn_export.data import Array
from tcn_export.errors import BundleError
from tcn_export.graph import Signature, StatePair
from tcn_export.targets.base import check_feeds, symbol_sizes
from tcn_export.targets.session import RUNTIME_ERRORS, cannot, check_interface
from tcn_export.targets.states import check_same_streams, resolve_shape

MOST_SHAPES = 8
"""So many shapes of inputs keep their buffers; the oldest make room."""
MOST_GRAPHS = 32
"""So many CUDA graphs are captured; a session never gives one back."""
_NO_GRAPH = -1  # the id that tells the runtime not to capture

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}

Shape = tuple[int, ...]


class BoundRunner:
    """Runs a session on buffers of a device.

    Args:
        session: Opened on the provider of that device.
        signature: What its model takes and gives.
        device: As ONNX Runtime calls it: ``cuda`` or ``cpu``.
        capture: Capture CUDA graphs, one per shape of the inputs and turn of the states, and
            replay them from then on. The session has to be opened with ``enable_cuda_graph``.

    Raises:
        BundleError: Session and signature disagree.
    """

    def __init__(
        self, session: Any, signature: Signature, device: str, capture: bool = False
    ) -> None:
        check_interface(session, signature)
        self.signature = signature
        self._session = session
        self._device = device
        self._graph_ids = count(1) if capture else None  # the runtime keeps 0 for itself
        self._states = _States(signature.states, device)
        self._bound: dict[tuple[Shape, ...], _Bound] = {}

    def reset(self) -> None:
        """Forget the states; see `Runner.reset`."""
        self._states.reset()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs, by name; see `Runner.run`."""
        check_feeds(self.signature, feeds)
        if self._states.prepare(symbol_sizes(self.signature, feeds)):
            self._bound.clear()  # they point to the banks of other shapes
        key = tuple(feeds[spec.name].shape for spec in self.signature.inputs)
        try:
            bound = self._bound.get(key) or self._bind(key, feeds)
            outputs = bound.run(self._session, feeds, self._states.turn)
        except (*RUNTIME_ERRORS, RuntimeError) as error:  # plain ones come from bindings
            raise cannot("run", error) from error
        self._states.advance()
        return outputs

    def _bind(self, key: tuple[Shape, ...], feeds: Mapping[str, Array]) -> _Bound:
        inputs = {name: _value(x.shape, x.dtype, self._device) for name, x in feeds.items()}
        shapes = {name: x.shape for name, x in feeds.items()} | self._states.shapes
        outputs = self._outputs(shapes)
        turns = []
        for read, written in self._states.turns():
            binding = self._session.io_binding()
            for name, value in (inputs | read).items():
                binding.bind_ortvalue_input(name, value)
            for name, value in (outputs | written).items():
                if value is None:
                    binding.bind_output(name, self._device)
                else:
                    binding.bind_ortvalue_output(name, value)
            turns.append((binding, self._run_options()))
        while len(self._bound) >= MOST_SHAPES:
            self._bound.pop(next(iter(self._bound)))
        self._bound[key] = _Bound(inputs, outputs, turns, self._device)
        return self._bound[key]

    def _outputs(self, shapes: Mapping[str, Shape]) -> dict[str, Any]:
        """A buffer for every output that is no state; None where the runtime must make it."""
        sizes = {
            symbol: size
            for entry in self._session.get_inputs()
            for symbol, size in zip(entry.shape, shapes[entry.name], strict=True)
            if isinstance(symbol, str)
        }
        states = {pair.output for pair in self.signature.states}
        buffers: dict[str, Any] = {}
        for entry in self._session.get_outputs():
            if entry.name in states:
                continue
            sized = [n if isinstance(n, int) else sizes.get(n) for n in entry.shape]
            shape = tuple(n for n in sized if n is not None)
            dtype = _DTYPES.get(entry.type)
            is_known = dtype is not None and len(shape) == len(sized)
            if self._graph_ids is not None and not is_known:
                raise BundleError(
                    f"the output `{entry.name}` of the shape {entry.shape} has a size that no "
                    "input has, and a CUDA graph needs it before the run. Export the model "
                    "without --cuda-graph."
                )
            known = _value(shape, dtype, self._device) if is_known else None
            buffers[entry.name] = known
        return buffers

    def _run_options(self) -> Any:
        options = ort.RunOptions()
        if self._graph_ids is not None:
            # A captured graph reads and writes where it did when it was captured: other
            # buffers need another graph. The call that captures runs the model several times,
            # which changes nothing, as no call writes what it reads.
            number = next(self._graph_ids)
            number = number if number <= MOST_GRAPHS else _NO_GRAPH
            options.add_run_config_entry("gpu_graph_id", str(number))
        return options


@dataclass(frozen=True, slots=True)
class _Bound:
    """The buffers for one set of input shapes, and their bindings, one per turn of the states.

    An output of None is made by the runtime, anew in every call.
    """

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    turns: list[tuple[Any, Any]]
    device: str

    def run(self, session: Any, feeds: Mapping[str, Array], turn: int) -> dict[str, Array]:
        binding, options = self.turns[turn]
        for name, value in self.inputs.items():
            # What is copied is storage, and the steps of a view may lie apart in it.
            value.update_inplace(np.ascontiguousarray(feeds[name]))
        for name, value in self.outputs.items():
            if value is None:  # else the runtime takes what it made last, of the size it had
                binding.bind_output(name, self.device)
        binding.synchronize_inputs()
        session.run_with_iobinding(binding, options)
        binding.synchronize_outputs()
        made = binding.get_outputs()  # in the order of binding, the states last
        return {
            # On the CPU a buffer's array is the buffer itself, which the next call overwrites.
            name: np.array((made[i] if value is None else value).numpy())
            for i, (name, value) in enumerate(self.outputs.items())
        }


class _States:
    """Two banks of state buffers that take turns: one is read while the other is written."""

    def __init__(self, pairs: tuple[StatePair, ...], device: str) -> None:
        self._pairs = pairs
        self._device = device
        self._banks: tuple[dict[str, Any], ...] = ({}, {})
        self._has_begun = False
        self.shapes: dict[str, Shape] = {}
        self.turn = 0

    def reset(self) -> None:
        self._has_begun = False

    def prepare(self, sizes: Mapping[str, int]) -> bool:
        """Make the bank that is read ready for a call; True where the banks are new ones.

        Raises:
            DataError: The states carried so far belong to another number of streams.
        """
        asked = {pair.input: resolve_shape(pair, sizes) for pair in self._pairs}
        if self._has_begun:
            check_same_streams(asked, self.shapes)
            return False
        is_new = asked != self.shapes
        if is_new:
            self._banks = tuple(
                {p.input: _value(asked[p.input], p.dtype, self._device) for p in self._pairs}
                for _ in range(2)
            )
            self.shapes = asked
        self.turn = 0
        for pair in self._pairs:
            zeros = np.zeros(asked[pair.input], pair.dtype)
            self._banks[0][pair.input].update_inplace(zeros)
        return is_new

    def turns(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """What is read, by name of the input, and written, by name of the output."""
        if not self._pairs:
            return [({}, {})]
        one, other = self._banks
        return [
            (read, {pair.output: written[pair.input] for pair in self._pairs})
            for read, written in ((one, other), (other, one))
        ]

    def advance(self) -> None:
        """After a call: what it wrote is what the next one reads."""
        if self._pairs:
            self._has_begun = True
            self.turn = 1 - self.turn


def _value(shape: Shape, dtype: Any, device: str) -> Any:
    return ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.dtype(dtype).type, device)
