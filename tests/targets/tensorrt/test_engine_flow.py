"""The control flow of `EngineRunner`: shapes, buffers that take turns, captured graphs, parts.

Host memory stands in for the device and numpy for the engine, so this says nothing about
TensorRT; what runs on TensorRT is in test_gpu.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from targets.stateful import CHANNELS, DILATIONS, KERNEL, WIDTH, weights, whole
from targets.streams import CASES, signals, streamed
from targets.tensorrt.host_device import HostMemory, SessionEngine, open_on_host
from tcn_export.errors import BundleError, DataError, TargetUnavailableError
from tcn_export.parity.tolerance import float32_limit
from tcn_export.targets import onnxruntime
from tcn_export.targets.tensorrt.engine import largest_batch

STATES = [("past_0", "present_0"), ("past_1", "present_1")]
SHAPES = {
    "x": (-1, CHANNELS, 1), "past_0": (-1, CHANNELS, 2), "past_1": (-1, WIDTH, 8),
    "y": (-1, WIDTH, 1), "present_0": (-1, CHANNELS, 2), "present_1": (-1, WIDTH, 8),
}  # fmt: skip
INPUTS = ("x", "past_0", "past_1")


class StatefulStandIn:
    """The stateful graph of the tests behind the names of an engine and its context."""

    num_io_tensors = len(SHAPES)

    def __init__(self, memory):
        self.memory, self.addresses, self.shapes = memory, {}, {}

    def get_tensor_name(self, index):
        return list(SHAPES)[index]

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name="FLOAT")

    def get_tensor_mode(self, name):
        return "in" if name in INPUTS else "out"

    def create_execution_context(self):
        return self

    def get_tensor_profile_shape(self, name, index):
        return [(n, *SHAPES[name][1:]) for n in (1, 1, 4)]

    def set_input_shape(self, name, shape):
        self.shapes[name] = shape
        return shape[1:] == SHAPES[name][1:] and shape[0] <= 4

    def infer_shapes(self):
        return [name for name in INPUTS if name not in self.shapes]

    def get_tensor_shape(self, name):
        return (self.shapes["x"][0] if self.shapes else -1, *SHAPES[name][1:])

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        assert stream == 1
        assert len(set(self.addresses.values())) == len(SHAPES), "one buffer for two tensors"
        addresses = dict(self.addresses)
        if self.memory.captured is not None:
            self.memory.captured.append(lambda: self._compute(addresses))
        else:
            self._compute(addresses)
        return True

    def _compute(self, addresses):
        view = {}
        for name, address in addresses.items():
            shape = self.get_tensor_shape(name)
            block = self.memory.blocks[address]
            view[name] = np.frombuffer(block, np.float32).reshape(shape)
        w, values = weights(), view["x"]
        for i, dilation in enumerate(DILATIONS):
            joined = np.concatenate([view[f"past_{i}"], values], axis=2)
            view[f"present_{i}"][...] = joined[:, :, -(KERNEL - 1) * dilation :]
            taps = [joined[:, :, k * dilation : k * dilation + 1] for k in range(KERNEL)]
            kernel = w[f"weight_{i}"]
            values = sum(np.einsum("oc,bct->bot", kernel[:, :, k], taps[k]) for k in range(3))
            values = values + w[f"bias_{i}"][:, None]
            values = np.maximum(values, 0) if i == 0 else values
        view["y"][...] = values


def open_runner(cuda_graph=False, states=STATES, largest=4, stand_in=StatefulStandIn):
    memory = HostMemory()
    return open_on_host(stand_in(memory), memory, states, cuda_graph, largest), memory


def signal(batch, steps):
    shape = (batch, CHANNELS, steps)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def stream(runner, x):
    steps = [runner.run({"x": x[:, :, t : t + 1]})["y"] for t in range(x.shape[2])]
    return np.concatenate(steps, axis=2)


@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_states_take_turns_in_two_buffers(cuda_graph, batch):
    runner, memory = open_runner(cuda_graph)
    x = signal(batch, 50)
    truth = whole(x)
    limit = float32_limit(0.0, float(np.abs(truth).max()))
    first = stream(runner, x)
    assert np.abs(first - truth).max() <= limit
    runner.reset()
    np.testing.assert_array_equal(stream(runner, x), first)
    assert memory.launches == (100 if cuda_graph else 0)


def test_another_number_of_streams_needs_a_reset():
    runner, memory = open_runner(cuda_graph=True)
    stream(runner, signal(1, 3))
    with pytest.raises(DataError, match=r"carries states .*reset"):
        runner.run({"x": signal(2, 1)})
    runner.reset()
    x = signal(2, 9)
    assert np.abs(stream(runner, x) - whole(x)).max() < 1e-5
    runner.close()
    assert memory.blocks == {}, "every buffer was given back"


def test_more_streams_than_the_engine_holds_are_refused():
    runner, _ = open_runner(largest=4)
    with pytest.raises(DataError, match="built for 4 streams at once, but 5 came"):
        runner.run({"x": signal(5, 1)})


def test_a_shape_outside_the_profile_is_refused():
    runner, _ = open_runner(largest=100)
    with pytest.raises(DataError, match=r"takes no input `x` of the shape \(5, 3, 1\)"):
        runner.run({"x": signal(5, 1)})


def test_without_states_large_batches_run_in_parts():
    class Doubling(StatefulStandIn):
        num_io_tensors = 2

        def get_tensor_name(self, index):
            return ("x", "y")[index]

        def get_tensor_shape(self, name):
            return (self.shapes["x"][0] if self.shapes else -1, CHANNELS, 1)

        def infer_shapes(self):
            return []

        def execute_async_v3(self, stream):
            blocks = [self.memory.blocks[self.addresses[name]] for name in ("x", "y")]
            source, result = (np.frombuffer(block, np.float32) for block in blocks)
            result[...] = 2 * source
            return True

    runner, _ = open_runner(states=(), largest=4, stand_in=Doubling)
    x = signal(10, 1)
    np.testing.assert_array_equal(runner.run({"x": x})["y"], 2 * x)
    strided = signal(10, 2)[:, :, ::2]
    np.testing.assert_array_equal(runner.run({"x": strided})["y"], 2 * strided)


def test_a_failed_launch_is_an_error():
    class Failing(StatefulStandIn):
        def execute_async_v3(self, stream):
            return False

    runner, _ = open_runner(stand_in=Failing)
    with pytest.raises(BundleError, match="could not run the engine"):
        runner.run({"x": signal(1, 1)})


def test_a_failed_capture_is_not_kept():
    class FailingOnce(StatefulStandIn):
        calls = 0

        def execute_async_v3(self, stream):
            self.calls += 1
            return self.calls != 2 and super().execute_async_v3(stream)

    runner, memory = open_runner(cuda_graph=True, stand_in=FailingOnce)
    x = signal(1, 1)
    with pytest.raises(BundleError, match="could not run the engine"):
        runner.run({"x": x})
    assert memory.captured is None, "the stream captures no longer"
    runner.reset()
    assert np.abs(runner.run({"x": x})["y"] - whole(x)).max() < 1e-5


def test_no_room_on_the_device_is_told():
    class Full(StatefulStandIn):
        def create_execution_context(self):
            return None

    with pytest.raises(TargetUnavailableError, match="out of memory"):
        open_runner(stand_in=Full)


def test_inputs_of_another_type_never_reach_the_device():
    runner, _ = open_runner()
    with pytest.raises(DataError, match="`x` is float64; the engine takes float32"):
        runner.run({"x": signal(1, 1).astype(np.float64)})


def test_the_largest_batch_is_that_of_the_narrowest_input():
    assert largest_batch({"a": [[1, 2], [1, 2], [8, 2]], "b": [[1], [1], [4]]}) == 4
    assert largest_batch({}) > 10**6


@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_state_is_carried_as_the_signature_says(name, cuda_graph):
    """Counters in int64, states without streams, and those whose first axis is another."""
    graph, _ = streamed(CASES[name])
    artifact, memory = onnxruntime.build(graph, "float32"), HostMemory()
    states = [(state.input, state.output) for state in graph.signature.states]
    engine = SessionEngine(artifact.files["model.onnx"], memory)
    running = open_on_host(engine, memory, states, cuda_graph)
    (spec,) = graph.signature.outputs
    for batch in (1, 2, 2, 1):
        running.reset()
        plain = onnxruntime.runner(artifact, threads=1)
        whole_signal = signals(CASES[name], batch, hops=12, seed=batch)
        for chunk in np.split(whole_signal, 12, axis=2):
            feeds = {"signal": np.ascontiguousarray(chunk)}
            expected = plain.run(feeds)[spec.name]
            np.testing.assert_array_equal(running.run(feeds)[spec.name], expected)


def test_the_largest_batch_is_not_read_off_the_states():
    profiles = {"a": [[1, 2], [1, 2], [8, 2]], "past_a": [[2, 1], [2, 1], [2, 8]]}
    assert largest_batch(profiles, [("past_a", "present_a")]) == 8
