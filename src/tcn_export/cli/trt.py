"""The options of ``tcn-export`` that only TensorRT has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tcn_export.cli.common import Choice

if TYPE_CHECKING:
    from tcn_export.targets.tensorrt.settings import TensorRTSettings

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--trt-runtime",
        type=Choice(["auto", "tensorrt", "rtx"]),
        default="auto",
        show_default=True,
        help="TensorRT: the library that builds; auto prefers full TensorRT.",
    ),
    click.option(
        "--trt-version",
        type=Choice(["10.3", "10.16", "11", "rtx"]),
        default="10.3",
        show_default=True,
        help="TensorRT: the oldest version that has to read the graph.",
    ),
    click.option(
        "--trt-batch",
        type=click.IntRange(1, 4096),
        default=32,
        show_default=True,
        help="TensorRT: the largest batch of the engine.",
    ),
    click.option(
        "--trt-workspace",
        type=click.IntRange(1, 2**20),
        default=1024,
        show_default=True,
        metavar="MIB",
        help="TensorRT: scratch memory that a layer may use.",
    ),
    click.option("--allow-tf32", is_flag=True, help="TensorRT: float32 with 10-bit factors."),
    click.option(
        "--dla-core",
        type=click.IntRange(0, 1),
        help="TensorRT: build for this deep learning accelerator of a Jetson.",
    ),
    click.option(
        "--gpu-fallback", is_flag=True, help="TensorRT: what it cannot run goes to the GPU."
    ),
    click.option(
        "--bundle-only",
        is_flag=True,
        help="TensorRT: exit with 0 although no engine was built and run here.",
    ),
)
_NAMES = {
    "trt_runtime": "runtime",
    "trt_version": "version",
    "trt_batch": "batch",
    "trt_workspace": "workspace_mib",
    "allow_tf32": "tf32",
    "dla_core": "dla_core",
    "gpu_fallback": "gpu_fallback",
}


def trt_options(function: CommandT) -> CommandT:
    """Give a command the options of TensorRT."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def split_trt_options(options: dict[str, Any]) -> tuple[dict[str, Any], TensorRTSettings]:
    """The other options, and what those of TensorRT ask for."""
    from tcn_export.targets.tensorrt.settings import TensorRTSettings

    asked = {name: options[option] for option, name in _NAMES.items()}
    others = {name: value for name, value in options.items() if name not in _NAMES}
    return others, TensorRTSettings(**asked)
