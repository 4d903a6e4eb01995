"""``tcn-train``: windows become a checkpoint."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tcn_export.cli.common import Choice, Number, Screen, command

if TYPE_CHECKING:
    from tcn_export.training.run import TrainingResult


class Sizes(click.ParamType[tuple[int, ...]]):
    """One or more positive integers, separated by commas."""

    name = "n[,n...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read the option."""
        integer = click.IntRange(min=1)
        parts: list[Any] = str(value).split(",")
        return tuple(integer.convert(part, param, ctx) for part in parts)


class Devices(click.ParamType[int | str]):
    """A number of devices, or the word ``auto``."""

    name = "n|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Read the option."""
        return "auto" if value == "auto" else click.IntRange(min=1).convert(value, param, ctx)


_NETWORK = (
    "arch",
    "widths",
    "levels",
    "kernel",
    "dilations",
    "convolutions",
    "norm",
    "dropout",
    "head",
)
_FIT = (
    "epochs",
    "batch",
    "learning_rate",
    "weight_decay",
    "patience",
    "class_weights",
    "seed",
    "devices",
    "nodes",
    "resume",
)


@command(
    "DATA is an .npz file of windows (x_train, y_train, x_test, y_test), or the name of a UCR "
    "or UEA set such as BasicMotions, read through aeon. Exit code: 0 trained, 1 the data or "
    "the training failed, 2 wrong usage, 4 a package is missing."
)
@click.argument("data")
@click.option(
    "--arch",
    type=Choice(["tcn", "resnet1d", "resnet-wang"]),
    default="tcn",
    show_default=True,
    help="Network; resnet-wang is that of Wang et al. 2017.",
)
@click.option("--widths", type=Sizes(), help="Channels of the blocks or stages; one for all.")
@click.option(
    "--levels",
    type=click.IntRange(min=1),
    help="Blocks of a TCN; residual blocks per stage of a ResNet.",
)
@click.option("--kernel", type=click.IntRange(min=1), help="Taps of the convolutions.")
@click.option(
    "--dilations", type=Sizes(), help="Of the blocks of a TCN.  [default: 1,2,4 ...]"
)
@click.option("--convolutions", type=click.IntRange(1, 2), help="Per block of a TCN.")
@click.option("--norm", type=Choice(["batch", "weight", "none"]), help="Of a TCN.")
@click.option("--dropout", type=Number(0, 1, max_open=True))
@click.option(
    "--head",
    type=Choice(["last", "every", "mean"]),
    help="A TCN answers from its last step, at every step, or from the mean over time.",
)
@click.option(
    "--length",
    type=click.IntRange(min=1),
    help="With --horizon: steps of the windows that are cut from the series.",
)
@click.option(
    "--horizon",
    type=click.IntRange(min=1),
    help="Forecast so many next steps of all channels of the series x_train.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True)
@click.option(
    "--learning-rate",
    type=Number(0, min_open=True),
    default=3e-3,
    show_default=True,
    help="Peak of the one-cycle schedule.",
)
@click.option("--weight-decay", type=Number(0), default=1e-2, show_default=True)
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    default=12,
    show_default=True,
    help="Epochs without a lower validation loss before stopping.",
)
@click.option(
    "--validation",
    type=Number(0, 0.5),
    default=0.2,
    show_default=True,
    help="Share of the training windows kept for validation, as 1/n, by whole groups; 0 for "
    "none.",
)
@click.option(
    "--class-weights",
    type=Choice(["none", "sqrt", "balanced"]),
    default="none",
    show_default=True,
    help="Let rare classes count more.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option(
    "--devices",
    type=Devices(),
    default="auto",
    show_default=True,
    help="Processors or GPUs per machine.",
)
@click.option(
    "--nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Machines."
)
@click.option("--resume", is_flag=True, help="Continue the run that was interrupted.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("model.pt"),
    show_default=True,
    help="The checkpoint.",
)
@click.option(
    "--save-data",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the windows as .npz, for tcn-export --data.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing checkpoint.")
def main(
    screen: Screen,
    data: str,
    length: int | None,
    horizon: int | None,
    validation: float,
    out: Path,
    save_data: Path | None,
    overwrite: bool,
    **options: Any,
) -> int:
    """Train a network on DATA and write a checkpoint for tcn-export."""
    from tcn_export import extras

    extras.require("train", "Training")
    from tcn_export.files import check_free
    from tcn_export.training.configure import NetworkOptions
    from tcn_export.training.datasets import keep_windows, load_training_data
    from tcn_export.training.fit import FitOptions
    from tcn_export.training.run import train

    dataset = load_training_data(data, length, horizon)
    check_free(out, overwrite)
    if save_data is not None:
        keep_windows(dataset, data, save_data, overwrite, options["resume"])
    result = train(
        dataset,
        NetworkOptions(**{name: options[name] for name in _NETWORK}),
        FitOptions(**{name: options[name] for name in _FIT}),
        validation,
        out,
        overwrite,
        screen.progress(),
        lambda line: click.echo(line, err=True) if screen.verbosity > 0 else None,
    )
    if result.is_main_process:
        _show(screen, result)
    return 0


def _show(screen: Screen, result: TrainingResult) -> None:
    from tcn_export.report import terminal

    screen.result(
        result.to_json,
        lambda: terminal.score_table(result.score, f"On the {result.scored_on} windows"),
        lambda: (
            f"{result.parameters:,} parameters, best epoch {result.best_epoch} of "
            f"{result.epochs}: {result.path}"
        ),
        lambda: f"\nNext:\n  tcn-export {shlex.quote(str(result.path))} --target onnx",
    )
