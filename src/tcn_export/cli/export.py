"""``tcn-export``: a checkpoint becomes a verified bundle."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tcn_export.cli.common import Choice, Number, Screen, command
from tcn_export.cli.network import network_options
from tcn_export.cli.trt import split_trt_options, trt_options
from tcn_export.errors import PARITY_FAILED, TargetUnavailableError

if TYPE_CHECKING:
    from tcn_export.parity.rows import ParityReport


class Length(click.ParamType[int | str]):
    """A number of steps, or the word ``dynamic``."""

    name = "steps|dynamic"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Read the option."""
        if value == "dynamic":
            return "dynamic"
        return click.IntRange(min=1).convert(value, param, ctx)


def _only_one(_: click.Context, __: click.Parameter, targets: tuple[str, ...]) -> str:
    """The target; click alone would take the last of several and say nothing."""
    if len(targets) > 1:
        raise click.UsageError(
            f"--target was given {len(targets)} times ({', '.join(targets)}): an export goes "
            "to one. Run the command once for each."
        )
    return targets[0]


@command(
    "Exit code: 0 exported and verified, 1 the export failed, 2 wrong usage, 3 exported but "
    "parity was lost, or not decidable with so few windows (the bundle is kept), 4 the target "
    "cannot run here.",
    is_gate=True,
)
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option(
    "--target",
    type=Choice(["onnx", "cuda", "trt"], {"tensorrt": "trt"}),
    required=True,
    multiple=True,
    callback=_only_one,
    help="Where it will run.",
)
@click.option(
    "--precision",
    type=Choice(
        ["float32", "float16", "int8", "auto"], {"fp32": "float32", "fp16": "float16"}
    ),
    default="float32",
    show_default=True,
    help="Arithmetic of the artifact; auto measures, and takes the fastest that passes.",
)
@click.option(
    "--data",
    metavar="NPZ|noise",
    help="Windows that calibrate int8 and judge the result; 'noise' for timing only.",
)
@network_options
@click.option(
    "--length",
    type=Length(),
    help="Steps of the window.  [default: as trained, or as --input-shape]",
)
@click.option(
    "--layout",
    "--trt-layout",
    "layout",
    type=Choice(["auto", "1d", "1d-direct", "1d-padded", "2d", "2d-padded", "2d-fused"]),
    default="auto",
    show_default=True,
    help="Form of the graph; auto measures all that differ, on this machine.",
)
@click.option(
    "--mode",
    type=Choice(["window", "stream"]),
    default="window",
    show_default=True,
    help="Whole windows, or one hop at a time with states.",
)
@click.option(
    "--hop",
    type=click.IntRange(min=1),
    metavar="STEPS",
    help="Steps of the signal per call of a stream.  [default: 1]",
)
@click.option(
    "--mean",
    metavar="running|window:W",
    help="What a stream makes of a mean over time: of all so far, or of the last W steps.",
)
@click.option(
    "--state-form",
    type=Choice(["auto", "concat", "ring"]),
    default="auto",
    show_default=True,
    help="How a stream keeps its states; auto measures.",
)
@click.option(
    "--keep-all-steps", is_flag=True, help="Compute every step of every layer, needed or not."
)
@click.option(
    "--cpu-isa",
    type=Choice(["auto", "vnni", "avx2", "arm64"]),
    default="auto",
    show_default=True,
    help="Processors that int8 is made for; auto: like this one.",
)
@click.option(
    "--calibration",
    type=Choice(["minmax", "percentile", "entropy", "mse"]),
    default="minmax",
    show_default=True,
    help="How int8 ranges are chosen.",
)
@click.option(
    "--calibration-windows",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="At most so many training windows calibrate.",
)
@click.option(
    "--max-drop",
    type=Number(min=0),
    default=1.0,
    show_default=True,
    metavar="POINTS",
    help="Accuracy that int8 may lose, as the upper 95 % bound.",
)
@click.option(
    "--int8-only", is_flag=True, help="Keep no layer in float32 where int8 loses more."
)
@click.option(
    "--allow-undecided",
    is_flag=True,
    help="Waive --max-drop where so few windows can show nothing: exit code 0, not verified.",
)
@click.option(
    "--opset", type=click.IntRange(17, 24), help="ONNX operators.  [default: 20; trt: 18]"
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("exported"),
    show_default=True,
    help="Folder that gets the bundle.",
)
@click.option(
    "--name", help="Name of the bundle.  [default: the model file's or the factory's]"
)
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Of the stress signals.",
)
@trt_options
@click.option("--cuda-graph", is_flag=True, help="On a GPU: capture calls, and replay them.")
def main(screen: Screen, model: Path | None, **options: Any) -> int:
    """Export MODEL and prove that it computes the same.

    MODEL is a checkpoint of tcn-train, an ONNX model (.onnx), a torch.export program (.pt2),
    or a state dict (.pt, .pth, .safetensors) for the network that a --factory of yours makes.
    A factory alone brings its own weights. --input-shape tells what such a network takes.
    """
    from tcn_export.options import ExportOptions
    from tcn_export.pipeline import export

    options, trt = split_trt_options(options)
    result = export(model, ExportOptions(trt=trt, **options), screen.progress())
    bundle, report = result.bundle, result.report
    screen.judged(report, bundle.manifest, bundle.path)
    from tcn_export.report import terminal
    from tcn_export.report.quantization import saturation_words
    from tcn_export.report.score_change import score_change

    screen.warnings(bundle.manifest.dependence)
    if options["allow_undecided"]:
        for row in report.waived_bounds:
            screen.warn(f"{row.note}; waived, so the bundle is not verified.")
    saturating = saturation_words(bundle.manifest.quantization or {})
    if saturating is not None:
        screen.warn(f"{saturating}.")
    path = shlex.quote(str(bundle.path))
    screen.result(
        lambda: {"bundle": str(bundle.path), **bundle.manifest.to_json()},
        lambda: terminal.bundle_table(bundle),
        lambda: "",
        lambda: terminal.parity_table(report, everything=screen.verbosity > 0),
        *([lambda: score_change(report, screen.verbosity > 0)] if report.scores else []),
        lambda: terminal.verdict_line(report, str(bundle.path)),
        lambda: f"\nNext:\n{_next(report, path, options['bundle_only'])}",
    )
    if report.verdict != "pass" or report.missing:
        screen.failure(str(terminal.verdict_line(report, str(bundle.path))))
    if report.verdict != "pass":
        return PARITY_FAILED
    if report.missing and not options["bundle_only"]:
        return TargetUnavailableError.exit_code
    return 0


def _next(report: ParityReport, path: str, is_kit_enough: bool) -> str:
    """What to do with a bundle: verify it, or bring a device kit to its device."""
    if report.verdict != "pass":
        return f"  tcn-inspect {path}"
    if report.missing:
        why = "the exit code is 4, since nothing ran there yet; --bundle-only makes it 0"
        return (
            f"  copy {path} to the device, and run there: python3 build_engine.py\n"
            + ("" if is_kit_enough else f"  ({why})\n")
            + f"  tcn-inspect {path}"
        )
    return f"  tcn-verify {path}\n  tcn-inspect {path}"
