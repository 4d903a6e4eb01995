"""What a user may ask of a TensorRT export beside the model and its precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from tcn_export.errors import UsageError
from tcn_export.graph import BATCH, LENGTH, Dimension, Signature
from tcn_export.targets.tensorrt.versions import VERSIONS

Runtime = Literal["auto", "tensorrt", "rtx"]
MIB = 2**20
MOST_BATCH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRTSettings:
    """How the engine is built.

    Attributes:
        runtime: Library that builds it; ``auto`` prefers full TensorRT to TensorRT for RTX.
        version: The oldest TensorRT that has to read the graph, one of `VERSIONS`.
        batch: The largest batch; the usual one is 1.
        workspace_mib: Scratch memory that a layer may use.
        tf32: Let float32 multiply with 10 bits of mantissa; its limits seldom hold then.
        dla_core: Deep learning accelerator of a Jetson; None for the GPU.
        gpu_fallback: Let the GPU run what the accelerator cannot.

    Raises:
        UsageError: A value is out of its range, or two contradict each other.
    """

    runtime: Runtime = "auto"
    version: str = "10.3"
    batch: int = 32
    workspace_mib: int = 1024
    tf32: bool = False
    dla_core: int | None = None
    gpu_fallback: bool = False

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("TensorRT runtime", self.runtime, get_args(Runtime)),
            ("TensorRT version", self.version, tuple(VERSIONS)),
        ):
            if value not in choices:
                raise UsageError(f"the {name} {value!r} is none of {', '.join(choices)}.")
        for name, number, most in (
            ("batch", self.batch, MOST_BATCH),
            ("workspace_mib", self.workspace_mib, 2**20),
        ):
            if not 1 <= number <= most:
                raise UsageError(f"{name} is {number}; expected 1 to {most}.")
        if self.dla_core is not None and not 0 <= self.dla_core <= 1:
            raise UsageError(
                f"there are the accelerators 0 and 1, and {self.dla_core} is none."
            )
        if self.runtime == "rtx" and self.dla_core is not None:
            raise UsageError(
                "TensorRT for RTX knows no accelerator: leave --trt-runtime or --dla-core out."
            )
        if self.gpu_fallback and self.dla_core is None:
            raise UsageError(
                "--gpu-fallback is for what an accelerator cannot run: give --dla-core."
            )

    def to_json(
        self,
        signature: Signature,
        lengths: tuple[int, int, int],
        cuda_graph: bool = False,
        opset: int | None = None,
    ) -> dict[str, Any]:
        """What the artifact keeps, so that it can be built anywhere later."""
        return {
            "runtime": self.runtime,
            "version": self.version,
            "workspace_bytes": self.workspace_mib * MIB,
            "tf32": self.tf32,
            "dla_core": self.dla_core,
            "gpu_fallback": self.gpu_fallback,
            "cuda_graph": cuda_graph,
            "opset": opset,
            "profiles": profiles(signature, self.batch, lengths),
        }


def profiles(
    signature: Signature, batch: int, lengths: tuple[int, int, int]
) -> dict[str, list[list[int]]]:
    """Smallest, usual and largest shape of every input and state with symbols.

    Args:
        signature: Names the symbols.
        batch: The largest batch.
        lengths: Smallest, usual and largest number of steps, where they are a symbol.
    """
    sizes = {BATCH: (1, 1, batch), LENGTH: lengths}
    shapes: dict[str, tuple[Dimension, ...]] = {
        **{spec.name: spec.shape for spec in signature.inputs},
        **{state.input: state.shape for state in signature.states},
    }
    return {
        name: [
            [size if isinstance(size, int) else sizes[size][index] for size in shape]
            for index in range(3)
        ]
        for name, shape in shapes.items()
        if any(isinstance(size, str) for size in shape)
    }
