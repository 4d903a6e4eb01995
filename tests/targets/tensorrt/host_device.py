"""Host memory for the device, and a session of ONNX Runtime for the engine.

They say nothing about TensorRT; they stand behind `EngineRunner`, whose buffers, turns and
captured graphs are the real ones.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort

from tcn_export.targets.session import session_options
from tcn_export.targets.tensorrt.engine import EngineRunner

DTYPES = {"tensor(float)": ("FLOAT", np.float32), "tensor(int64)": ("INT64", np.int64)}
SEVERITY = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)


class HostMemory:
    """What `Cuda` offers, in host memory; captured launches keep their addresses."""

    def __init__(self) -> None:
        self.stream = SimpleNamespace(value=1)
        self.blocks: dict[int, ctypes.Array] = {}
        self.captured: list | None = None
        self.launches = 0

    def allocate(self, size):
        block = ctypes.create_string_buffer(b"\xff" * size, size)  # not zeros: NaN
        self.blocks[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, address):
        del self.blocks[address]

    def upload(self, address, array):
        assert len(self.blocks[address]) == array.nbytes
        ctypes.memmove(address, array.tobytes(), array.nbytes)

    def download(self, array, address):
        assert len(self.blocks[address]) == array.nbytes
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def clear(self, address, size):
        ctypes.memset(address, 0, size)

    def synchronize(self):
        assert self.captured is None, "a stream that captures cannot be waited for"

    def begin_capture(self):
        self.captured = []

    def end_capture(self):
        captured, self.captured = self.captured, None
        return captured

    def launch(self, executable):
        self.launches += 1
        for call in executable:
            call()

    def destroy(self, executable):
        executable.clear()


class SessionEngine:
    """A model behind the names that an engine of TensorRT has."""

    def __init__(self, model: bytes, memory: HostMemory) -> None:
        self.session = ort.InferenceSession(
            model, session_options(1), providers=["CPUExecutionProvider"]
        )
        self.memory = memory
        self.inputs = {entry.name: entry for entry in self.session.get_inputs()}
        self.outputs = {entry.name: entry for entry in self.session.get_outputs()}
        self.tensors = {**self.inputs, **self.outputs}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name=DTYPES[self.tensors[name].type][0])

    def get_tensor_mode(self, name):
        return "in" if name in self.inputs else "out"

    def get_tensor_shape(self, name):
        return tuple(n if isinstance(n, int) else -1 for n in self.tensors[name].shape)

    def get_tensor_profile_shape(self, name, index):
        return [self.get_tensor_shape(name)] * 3

    def create_execution_context(self):
        return _SessionContext(self)


class _SessionContext:
    def __init__(self, engine: SessionEngine) -> None:
        self.engine, self.sizes, self.given = engine, {}, set()
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name, shape):
        declared = self.engine.tensors[name].shape
        fits = len(shape) == len(declared)
        for size, want in zip(shape, declared, strict=fits):
            if isinstance(want, int):
                fits = fits and size == want
            else:
                self.sizes[want] = size
        self.given.add(name)
        return fits

    def infer_shapes(self):
        return [name for name in self.engine.inputs if name not in self.given]

    def get_tensor_shape(self, name):
        return tuple(self.sizes.get(n, n) for n in self.engine.tensors[name].shape)

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        assert len(set(self.addresses.values())) == len(self.engine.tensors)
        addresses, memory = dict(self.addresses), self.engine.memory
        if memory.captured is not None:
            memory.captured.append(lambda: self._compute(addresses))
        else:
            self._compute(addresses)
        return True

    def _compute(self, addresses):
        view = {
            name: np.frombuffer(memory, DTYPES[self.engine.tensors[name].type][1]).reshape(
                self.get_tensor_shape(name)
            )
            for name, memory in (
                (name, self.engine.memory.blocks[a]) for name, a in addresses.items()
            )
        }
        names = list(self.engine.outputs)
        made = self.engine.session.run(names, {n: view[n] for n in self.engine.inputs})
        for name, array in zip(names, made, strict=True):
            view[name][...] = array


def open_on_host(engine, memory, states, cuda_graph=False, largest=2**31) -> EngineRunner:
    """The runner of engines, on host memory."""
    trt = SimpleNamespace(
        ILogger=type("ILogger", (), {"Severity": SEVERITY}),
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda plan: engine),
        TensorIOMode=SimpleNamespace(INPUT="in"),
        __name__="tensorrt",
        __version__="0",
    )
    return EngineRunner(trt, b"", memory, states, cuda_graph, largest)
