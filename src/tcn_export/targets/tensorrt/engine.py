"""An engine, loaded and run: inputs to the device, one launch, outputs back.

States stay on the device, in two buffers each: what one call writes the next one reads. Input
and output state never share a buffer ("results are wrong", TensorRT issue 4681). A captured
CUDA graph holds addresses, so that there are two of them where there are states.

Part of ``build_engine.py``: Python 3.8, numpy and the standard library only.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from tcn_export.errors import BundleError, DataError, TargetUnavailableError
from tcn_export.targets.tensorrt.journal import Journal, created, make_logger

if TYPE_CHECKING:
    from tcn_export.data import Array
    from tcn_export.targets.tensorrt.cudart import Cuda

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32",
           "INT64": "int64", "UINT8": "uint8", "BOOL": "bool"}  # fmt: skip


class EngineRunner:
    """Runs one engine on the first device.

    Args:
        trt: The imported module that built the engine.
        plan: The serialised engine.
        cuda: The CUDA runtime.
        states: Input and output name of every state.
        cuda_graph: Launch each call as one captured graph.
        largest_batch: What the engine was built for; without states, larger ones are run in
            parts.
        dla_core: The accelerator that it was built for; None for the GPU.

    Raises:
        TargetUnavailableError: TensorRT does not run the engine on this device.
    """

    def __init__(
        self,
        trt: Any,
        plan: bytes,
        cuda: Cuda,
        states: Sequence[tuple[str, str]] = (),
        cuda_graph: bool = False,
        largest_batch: int = 2**31,
        dla_core: int | None = None,
    ) -> None:
        self._cuda, self.most_streams = cuda, largest_batch
        self._journal = Journal()
        self._logger = make_logger(trt, self._journal)
        self._runtime = created(trt, lambda: trt.Runtime(self._logger), self._journal)
        if dla_core is not None:
            self._runtime.DLA_core = dla_core
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise TargetUnavailableError(
                f"{trt.__name__} {trt.__version__} does not run the engine on this device: "
                f"{self._journal.problems()}. Build it with another version of TensorRT, or "
                "on a device that this one supports."
            )
        self.engine = engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self._dtypes = {name: _DTYPES[engine.get_tensor_dtype(name).name] for name in names}
        inputs = {n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT}
        self._carried = dict(states)
        self._inputs = [name for name in names if name in inputs - set(self._carried)]
        self._outputs = [n for n in names if n not in inputs | set(self._carried.values())]
        self.context, self._own_graphs = _make_context(
            trt, engine, cuda_graph, bool(self._carried)
        )
        if self.context is None:
            raise TargetUnavailableError(
                f"TensorRT could not make room for the engine: {self._journal.problems()}. If "
                "the device is out of memory, give a smaller --trt-batch or --trt-workspace."
            )
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._buffers: dict[str, list[int]] = {}
        self._graphs: dict[int, Any] = {}
        self._phase, self._is_fresh = 0, True
        # Nobody else gives the device's memory back when this object goes.
        weakref.finalize(self, _release, cuda, self._buffers, self._graphs)

    def reset(self) -> None:
        """Fill the states with zeros: the next call begins a signal."""
        for name in self._carried:
            for address in self._buffers.get(name, ()):
                self._cuda.clear(address, self._size(name))
        self._phase, self._is_fresh = 0, True

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs, by name; states are kept for the next call."""
        batch = len(next(iter(feeds.values())))
        if batch <= self.most_streams:
            return self._run(feeds)
        if self._carried:
            raise DataError(
                f"the engine was built for {self.most_streams} streams at once, but {batch} "
                "came. Export it with a larger --trt-batch."
            )
        parts = []
        for start in range(0, batch, self.most_streams):
            part = slice(start, start + self.most_streams)
            parts.append(self._run({name: array[part] for name, array in feeds.items()}))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        for name in self._inputs:
            if name not in feeds or feeds[name].dtype != self._dtypes[name]:
                found = feeds[name].dtype if name in feeds else "missing"
                raise DataError(
                    f"the input `{name}` is {found}; the engine takes {self._dtypes[name]}."
                )
        shapes = {name: tuple(feeds[name].shape) for name in self._inputs}
        if any(self._shapes.get(name) != shape for name, shape in shapes.items()):
            self._prepare(shapes)
        contiguous = {name: np.ascontiguousarray(feeds[name]) for name in self._inputs}
        for name, array in contiguous.items():
            self._cuda.upload(self._buffers[name][0], array)
        self._launch()
        outputs = {
            name: np.empty(self._shapes[name], self._dtypes[name]) for name in self._outputs
        }
        for name, array in outputs.items():
            self._cuda.download(array, self._buffers[name][0])
        self._cuda.synchronize()
        self._phase ^= 1 if self._carried else 0
        self._is_fresh = False
        return outputs

    def close(self) -> None:
        """Give the device's memory back."""
        _release(self._cuda, self._buffers, self._graphs)
        self._shapes = {}

    def _prepare(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Tell the engine new shapes and make room for them; states begin at zero."""
        if self._carried and self._shapes and not self._is_fresh:
            carried = {name: self._shapes[name] for name in self._inputs}
            raise DataError(
                f"the runner carries states for inputs of the shapes {carried}, but this call "
                f"brings {shapes}. Feed as many streams as before, or call reset()."
            )
        self.close()
        context = self.context
        batch = next(iter(shapes.values()))[0]
        for name in self._carried:
            # Where a state has the streams, and whether it has, the engine knows.
            sizes = self.engine.get_tensor_shape(name)
            shapes = {**shapes, name: tuple(batch if n == -1 else n for n in sizes)}
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise DataError(
                    f"the engine takes no input `{name}` of the shape {shape}; it was built "
                    f"for {self.engine.get_tensor_profile_shape(name, 0)} (smallest, usual, "
                    "largest)."
                )
        missing = context.infer_shapes()
        if missing:
            raise DataError(f"the engine needs the inputs {', '.join(missing)} as well.")
        for name in self._dtypes:
            self._shapes[name] = tuple(context.get_tensor_shape(name))
            copies = 2 if name in self._carried else 1
            if name not in self._carried.values():
                self._buffers[name] = [
                    self._cuda.allocate(self._size(name)) for _ in range(copies)
                ]
        self.reset()

    def _launch(self) -> None:
        if not self._own_graphs:
            self._enqueue()
            return
        if self._phase not in self._graphs:
            self._enqueue()  # warms up; both states' buffers are only read or written again
            self._cuda.synchronize()
            self._graphs[self._phase] = self._capture()
        self._cuda.launch(self._graphs[self._phase])

    def _capture(self) -> Any:
        self._cuda.begin_capture()
        try:
            self._enqueue()
        except BundleError:
            # A stream that went on capturing would be lost for the next call.
            with suppress(BundleError):
                self._cuda.destroy(self._cuda.end_capture())
            raise
        return self._cuda.end_capture()

    def _enqueue(self) -> None:
        context = self.context
        self._journal.remarks.clear()  # what was said before is no reason for what fails now
        for name in (*self._inputs, *self._outputs):
            context.set_tensor_address(name, self._buffers[name][0])
        for name, output in self._carried.items():
            context.set_tensor_address(name, self._buffers[name][self._phase])
            context.set_tensor_address(output, self._buffers[name][1 - self._phase])
        if not context.execute_async_v3(self._cuda.stream.value or 0):
            raise BundleError(
                f"TensorRT could not run the engine: {self._journal.problems()}. Do not use "
                "it; rebuild it on this device."
            )

    def _size(self, name: str) -> int:
        return int(np.prod(self._shapes[name])) * np.dtype(self._dtypes[name]).itemsize


def largest_batch(
    profiles: Mapping[str, Sequence[Sequence[int]]], states: Sequence[tuple[str, str]] = ()
) -> int:
    """The largest batch of the shapes that an engine was built for.

    Args:
        profiles: Smallest, usual and largest shape of inputs and states.
        states: Input and output name of every state, whose first axis may be another.
    """
    carried = dict(states)
    largest = (int(p[2][0]) for name, p in profiles.items() if name not in carried)
    return min(largest, default=2**31)


def _make_context(
    trt: Any, engine: Any, cuda_graph: bool, has_states: bool
) -> tuple[Any, bool]:
    """An execution context, and whether graphs are ours to capture.

    TensorRT for RTX compiles kernels for the shapes it meets. By default it answers with
    others meanwhile: those would be judged, and not the ones that run later. So it has to
    wait. It captures graphs by itself when told to; a capture of ours would not survive that.
    """
    graphs = getattr(trt, "CudaGraphStrategy", None)
    kernels = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
    create_runtime_config = getattr(engine, "create_runtime_config", None)
    if graphs is None or kernels is None or create_runtime_config is None:
        return engine.create_execution_context(), cuda_graph
    runtime_config = create_runtime_config()
    if not hasattr(runtime_config, "cuda_graph_strategy") or not hasattr(
        runtime_config, "dynamic_shapes_kernel_specialization_strategy"
    ):
        return engine.create_execution_context(), cuda_graph
    runtime_config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER
    if cuda_graph and not has_states:  # whose addresses change with every call
        runtime_config.cuda_graph_strategy = graphs.WHOLE_GRAPH_CAPTURE
    return engine.create_execution_context(runtime_config), False


def _release(cuda: Cuda, buffers: dict[str, list[int]], graphs: dict[int, Any]) -> None:
    while graphs:
        cuda.destroy(graphs.popitem()[1])
    while buffers:
        for address in buffers.popitem()[1]:
            cuda.free(address)
