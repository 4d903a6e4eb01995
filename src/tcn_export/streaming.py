"""A live stream: one hop of the signal in, its answers out, the states kept in between.

    stream = open_stream("exported/model-onnx-float32-stream1")
    outputs = stream.step(samples)

It needs numpy and the bundle's runtime, nothing else.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tcn_export.archive import read_arrays
from tcn_export.bundle import Bundle, load_bundle
from tcn_export.data import Array
from tcn_export.errors import DataError, UsageError
from tcn_export.files import write_bytes
from tcn_export.graph import BATCH, Signature
from tcn_export.targets.base import Runner, Stepper
from tcn_export.targets.streamed import chunks, count_hops, join_hops

_MODEL = "model_sha256"
MOST_STREAMS = 4096


def open_stream(
    bundle: Bundle | Path | str, streams: int = 1, threads: int = 1
) -> StreamSession:
    """Begin a stream, or several in step, with the model of a bundle.

    Args:
        bundle: What `load_bundle` read, or its path; exported with ``--mode stream``. Any
            number of sessions may be opened from one; they share no states.
        streams: Signals that come in step: the batch of every call.
        threads: Threads of the runtime; 0 takes all cores. A hop is too little work for many.

    Raises:
        UsageError: The bundle takes whole windows.
        ExportError: It cannot be used, or cannot run on this machine.
    """
    bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    manifest = bundle.manifest
    if manifest.mode != "stream":
        raise UsageError(
            f"{bundle.path} takes whole windows. Export the model with --mode stream to open "
            "it as a stream."
        )
    if not 1 <= streams <= MOST_STREAMS:
        raise UsageError(f"{streams} streams were asked for; expected 1 to {MOST_STREAMS:,}.")
    digest = hashlib.sha256(bundle.files[manifest.model]).hexdigest()
    runner = bundle.stepper(threads)
    stepper = runner if isinstance(runner, Stepper) else OnDevice(runner, manifest.target)
    return StreamSession(stepper, manifest.signature, digest, streams)


class OnDevice:
    """Steps a runner whose states lie in the memory of a device, and stay there."""

    def __init__(self, runner: Runner, target: str) -> None:
        self._target = target
        self.reset, self.step = runner.reset, runner.run

    def prepare(self, streams: int) -> None:
        """Nothing: the runner makes its buffers with the first step."""

    def states(self) -> dict[str, Array]:
        """Raise `UsageError`: they are not copied back."""
        raise UsageError(
            f"the states of a stream of the target {self._target} stay on the device. Save "
            "and restore them with a bundle of the target onnx."
        )

    def restore(self, states: Mapping[str, Array]) -> None:
        """Raise `UsageError`; see `states`."""
        del states
        self.states()


class StreamSession:
    """Carries the states of streams from hop to hop; see `open_stream`.

    A network that looks ahead answers late: of outputs with steps, the first ``delay`` ones
    come before the signal begins, and mean nothing.

    Args:
        stepper: Runs one hop.
        signature: What a hop takes and gives.
        model: The sha256 of the model; saved states belong to it.
        streams: Signals that come in step.
    """

    def __init__(
        self, stepper: Stepper, signature: Signature, model: str, streams: int
    ) -> None:
        self.signature = signature
        self.hop = signature.hop
        self.streams = streams
        self.delay = {spec.name: spec.delay for spec in signature.outputs if spec.time_axis}
        self._stepper = stepper
        self._model = model
        self._input = signature.inputs[0]
        self._feeds: dict[str, Array] = {}
        shape = [streams if n == BATCH else int(n) for n in self._input.shape]
        self._shape = tuple(shape)
        self._dtype = np.dtype(self._input.dtype)
        self.reset()

    def step(self, chunk: Array) -> Mapping[str, Array]:
        """Feed the next steps of the signal, and get the answers to them.

        Args:
            chunk: (streams, channels, hop), or several hops of it; in the dtype of the model.

        Returns:
            The outputs by name. Those of a single hop lie in buffers that the next one
            overwrites: copy what is to stay. Of several hops outputs with steps are joined,
            and others are those of the last hop.

        Raises:
            DataError: The chunk has another shape or dtype; the states stay as they were.
        """
        if (
            chunk.__class__ is np.ndarray
            and chunk.shape == self._shape
            and (chunk.dtype == self._dtype)
        ):
            self._feeds[self._input.name] = chunk
            return self._stepper.step(self._feeds)
        return self._several(chunk)

    def _several(self, chunk: Array) -> Mapping[str, Array]:
        self._check(chunk)
        feeds = {self._input.name: chunk}
        hops = count_hops(self.signature, feeds)
        outputs = [
            {k: np.array(v) for k, v in self._stepper.step(part).items()}
            for part in (chunks(self.signature, feeds, hop) for hop in range(hops))
        ]
        return join_hops(self.signature, outputs)

    def _check(self, chunk: Array) -> None:
        expected = f"{self._dtype} of the shape ({', '.join(map(str, self._shape))})"
        if not isinstance(chunk, np.ndarray):
            raise DataError(f"the chunk is a {type(chunk).__name__}; expected {expected}.")
        axis = self._input.time_axis
        assert axis is not None
        alike = chunk.ndim == len(self._shape) and all(
            n == m
            for i, (n, m) in enumerate(zip(chunk.shape, self._shape, strict=True))
            if i != axis
        )
        is_whole = alike and chunk.shape[axis] > 0 and chunk.shape[axis] % self.hop == 0
        if chunk.dtype != self._dtype or not is_whole:
            raise DataError(
                f"the chunk is {chunk.dtype} of the shape {chunk.shape}; expected {expected}: "
                f"(streams, channels, steps), and any multiple of the hop of {self.hop} steps."
            )

    def reset(self) -> None:
        """Begin again: the next step is the first one of its signal."""
        self._stepper.reset()
        self._stepper.prepare(self.streams)

    def states(self) -> dict[str, Array]:
        """A copy of the states, by name."""
        return self._stepper.states()

    def restore(self, states: Mapping[str, Array]) -> None:
        """Go on from what `states` gave, of this session or another of the same bundle.

        Raises:
            DataError: They are of another model, or another number of streams.
        """
        self._stepper.restore(states)

    def save(self, path: Path | str) -> None:
        """Write the states to an npz file, in one step and without pickles.

        Raises:
            OutputError: It cannot be written.
        """
        buffer = io.BytesIO()
        np.savez(buffer, **{_MODEL: np.array(self._model), **self.states()})  # type: ignore[arg-type]
        write_bytes(Path(path), buffer.getvalue())

    def load(self, path: Path | str) -> None:
        """Go on from states that `save` wrote, on this machine or another.

        Raises:
            DataError: The file is damaged, or holds the states of another model, or of another
                number of streams; the states stay as they were.
        """
        try:
            arrays = read_arrays(io.BytesIO(Path(path).read_bytes()))
            model = str(arrays.pop(_MODEL, np.array("none")))
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read states from {path}: {error}.") from error
        if model != self._model:
            raise DataError(
                f"{path} holds states of the model {model[:12]}, and this stream runs "
                f"{self._model[:12]}. Open the bundle that they were saved with."
            )
        self.restore(arrays)
