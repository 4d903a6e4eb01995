"""From the options of tcn-train and the shape of the data to a network's configuration."""

from __future__ import annotations

from dataclasses import dataclass

from tcn_export.data import Dataset
from tcn_export.errors import DataError, UsageError
from tcn_export.models.blocks import Norm
from tcn_export.models.config import Config
from tcn_export.models.resnet1d import ResNet1dConfig, WangResNetConfig
from tcn_export.models.tcn import Head, TCNConfig
from tcn_export.source.base import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """What the user asks of a network; None leaves a choice to the architecture.

    Attributes:
        arch: Name in `models.ARCHITECTURES`.
        widths: Channels per block or stage; one value stands for all of them.
        levels: Blocks of a TCN, or residual blocks per stage of a ResNet.
        kernel: Taps of the convolutions.
        dilations: Of the blocks of a TCN.
        convolutions: Per block of a TCN.
        norm: Of a TCN.
        dropout: Probability while training.
        head: Of a TCN.
    """

    arch: str = "tcn"
    widths: tuple[int, ...] | None = None
    levels: int | None = None
    kernel: int | None = None
    dilations: tuple[int, ...] | None = None
    convolutions: int | None = None
    norm: Norm | None = None
    dropout: float | None = None
    head: Head | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What the data asks of a network."""

    task: Task
    channels: int
    length: int
    outputs: int
    classes: tuple[str, ...]


def pose(dataset: Dataset, head: Head | None) -> Problem:
    """Read task, classes and sizes off the training windows.

    Raises:
        DataError: Labels that do not fit the head, or a single class.
    """
    windows = dataset.train
    assert windows is not None
    assert windows.y is not None
    _, channels, length = windows.x.shape
    test = dataset.test
    if test is not None and test.y is not None and test.y.shape[1:] != windows.y.shape[1:]:
        raise DataError(
            f"a training window of {dataset.name} has labels of the shape "
            f"{windows.y.shape[1:]}, a test window {test.y.shape[1:]}; they must be equal."
        )
    per_step = head == "every"
    expected = 2 if per_step or not windows.is_classification else 1
    if not windows.is_classification:
        if per_step or windows.y.ndim != expected:
            raise DataError(
                f"the targets of {dataset.name} have the shape {windows.y.shape}; a "
                "regression needs (windows, targets), and the head `last` or `mean`."
            )
        return Problem("regression", channels, length, windows.y.shape[1], ())
    if windows.y.ndim != expected or (per_step and windows.y.shape[1] != length):
        raise DataError(
            f"the labels of {dataset.name} have the shape {windows.y.shape}; the head "
            f"`{head or 'last'}` needs {'one per step' if per_step else 'one per window'}."
        )
    count = len(dataset.class_names) or int(windows.y.max()) + 1
    if count < 2:
        raise DataError(
            f"{dataset.name} holds a single class; there is nothing to tell apart."
        )
    names = dataset.class_names or tuple(map(str, range(count)))
    return Problem("classification", channels, length, count, names)


def configure(problem: Problem, options: NetworkOptions) -> Config:
    """Choose the configuration of a network.

    Raises:
        UsageError: An option that the architecture does not have, or a value out of its range.
    """
    builders = {"tcn": _tcn, "resnet1d": _resnet1d, "resnet-wang": _resnet_wang}
    try:
        return builders[options.arch](problem, options)
    except ValueError as error:
        raise UsageError(f"{error}.") from error


def _tcn(problem: Problem, options: NetworkOptions) -> Config:
    _refuse(options, ())
    widths = options.widths or (32,)
    given = len(widths) if len(widths) > 1 else len(options.dilations or ()) or 5
    levels = options.levels or given
    if len(widths) > 1 and levels != len(widths):
        raise UsageError(
            f"--widths names {len(widths)} blocks and --levels {levels}; leave --levels out."
        )
    widths = widths * levels if len(widths) == 1 else widths
    return TCNConfig(
        in_channels=problem.channels,
        outputs=problem.outputs,
        widths=widths,
        dilations=options.dilations or tuple(2**i for i in range(len(widths))),
        kernel_size=options.kernel or 3,
        convolutions=options.convolutions or 2,
        norm=options.norm or "batch",
        dropout=options.dropout if options.dropout is not None else 0.1,
        head=options.head or "last",
    )


def _resnet1d(problem: Problem, options: NetworkOptions) -> Config:
    _refuse(options, ("dilations", "convolutions", "norm", "head"))
    widths = options.widths or (32, 48, 64)
    return ResNet1dConfig(
        in_channels=problem.channels,
        outputs=problem.outputs,
        widths=widths,
        strides=(1, *[2] * (len(widths) - 1)),
        blocks=options.levels or 1,
        kernel_size=options.kernel or 5,
        dropout=options.dropout if options.dropout is not None else 0.1,
    )


def _resnet_wang(problem: Problem, options: NetworkOptions) -> Config:
    _refuse(
        options, ("dilations", "convolutions", "norm", "head", "kernel", "levels", "dropout")
    )
    return WangResNetConfig(
        in_channels=problem.channels,
        outputs=problem.outputs,
        widths=options.widths or (64, 128, 128),
    )


def _refuse(options: NetworkOptions, unknown: tuple[str, ...]) -> None:
    for name in unknown:
        if getattr(options, name) is not None:
            raise UsageError(f"the architecture {options.arch} has no option --{name}.")
