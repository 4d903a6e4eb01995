"""What is built: the settings of an export, checked, as a request to the builder.

Part of ``build_engine.py``: Python 3.8, standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tcn_export.errors import BundleError
from tcn_export.targets.tensorrt.probe import MODULES

_LEAST = {"workspace_bytes": 1, "dla_core": 0}


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    Attributes:
        model: Path of the ONNX file.
        runtime: Module to build with, ``tensorrt`` or ``tensorrt_rtx``.
        profiles: Smallest, usual and largest shape of each input that has symbols.
        workspace_bytes: Most scratch memory that a layer may use.
        tf32: Let float32 multiply with 10 bits of mantissa.
        timing_cache: File that keeps what was timed, for the next build; None for none.
        dla_core: Deep learning accelerator to build for; None for the GPU.
        gpu_fallback: Run on the GPU what the accelerator cannot.
    """

    model: str
    runtime: str
    profiles: dict[str, list[list[int]]]
    workspace_bytes: int
    tf32: bool = False
    timing_cache: str | None = None
    dla_core: int | None = None
    gpu_fallback: bool = False


def check_settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the ``settings`` of a TensorRT export, if they have the form that they must have.

    Raises:
        BundleError: They were altered.
    """
    kinds: dict[str, tuple[type, ...]] = {
        "runtime": (str,),
        "version": (str,),
        "profiles": (dict,),
        "workspace_bytes": (int,),
        "tf32": (bool,),
        "dla_core": (int, type(None)),
        "gpu_fallback": (bool,),
        "cuda_graph": (bool,),
    }
    for name, kind in kinds.items():
        value = settings.get(name)
        fits = isinstance(value, kind) and (bool in kind or not isinstance(value, bool))
        least = _LEAST.get(name)
        if least is not None and isinstance(value, int):
            fits = fits and value >= least
        if name == "runtime":
            fits = fits and value in MODULES
        if name not in settings or not fits:
            raise BundleError(
                f"the setting `{name}` of the bundle is {settings.get(name, 'missing')!r}. It "
                "was altered; export the model again."
            )
    for name, shapes in settings["profiles"].items():
        if not (
            isinstance(shapes, list)
            and len(shapes) == 3
            and all(isinstance(shape, list) and shape for shape in shapes)
            and all(isinstance(n, int) and n >= 1 for shape in shapes for n in shape)
        ):
            raise BundleError(
                f"the profile of `{name}` is {shapes!r}; expected three shapes. The bundle "
                "was altered; export the model again."
            )
    return settings


def make_request(
    model: str, runtime: str, settings: Mapping[str, Any], timing_cache: str | None = None
) -> BuildRequest:
    """What to build, from checked ``settings`` of an artifact or manifest."""
    return BuildRequest(
        model=model,
        runtime=runtime,
        profiles=settings["profiles"],
        workspace_bytes=settings["workspace_bytes"],
        tf32=settings["tf32"],
        timing_cache=timing_cache,
        dla_core=settings["dla_core"],
        gpu_fallback=settings["gpu_fallback"],
    )
