"""What all commands share: where errors become exit codes, and common options."""

from __future__ import annotations

import difflib
import functools
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tcn_export import __version__
from tcn_export.cli.ci import CiOutputs, ci_options
from tcn_export.errors import ExportError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from tcn_export.manifest import Manifest
    from tcn_export.parity.rows import ParityReport
    from tcn_export.progress import Progress

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

SIGNAL_EXIT = 130


class Choice(click.Choice[str]):
    """A choice that knows other spellings, and suggests the nearest one for a wrong word.

    Args:
        choices: What may be chosen.
        spellings: Other words for a choice.
    """

    def __init__(self, choices: list[str], spellings: dict[str, str] | None = None) -> None:
        super().__init__(choices)
        self.spellings = spellings or {}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Find the choice that ``value`` means."""
        word = str(value).lower()
        word = self.spellings.get(word, word)
        if word in self.choices:
            return word
        near = difflib.get_close_matches(word, [*self.choices, *self.spellings], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        message = f"{value!r} is not one of {', '.join(self.choices)}.{hint}"
        raise click.BadParameter(message, ctx, param)


class Number(click.FloatRange):
    """A number within a range; ``nan`` and ``inf`` are within none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read the option."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def command(help_epilog: str, is_gate: bool = False) -> Callable[[CommandT], click.Command]:
    """Make a command: common options, and `ExportError` as message and exit code.

    The wrapped function gets the screen beside its own options and returns the exit code. A
    gate tells CI systems of its verdict (`Screen.judged`), and of an error as well.
    """

    def decorate(function: CommandT) -> click.Command:
        @functools.wraps(function)
        def guarded(
            as_json: bool,
            verbose: int,
            quiet: bool,
            junit: Path | None = None,
            markdown: Path | None = None,
            **options: Any,
        ) -> None:
            context = click.get_current_context()
            outputs = CiOutputs.of(context, junit, markdown, as_json) if is_gate else None
            screen = Screen(as_json, -1 if quiet else verbose, outputs)
            try:
                if outputs is not None:
                    outputs.check()
                code = function(screen, **options)
            except ExportError as error:
                screen.error(error)
                if outputs is not None:
                    outputs.failed(error)
                code = error.exit_code
            except KeyboardInterrupt as stop:
                click.echo(f"Interrupted. {stop}", err=True)
                code = SIGNAL_EXIT
            sys.exit(code)

        wrapped: Any = guarded
        for option in (
            click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
            click.option("-v", "--verbose", count=True, help="Print more."),
            click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
            click.version_option(__version__),
            *([ci_options] if is_gate else []),
        ):
            wrapped = option(wrapped)
        settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
        return click.command(context_settings=settings, epilog=help_epilog)(wrapped)

    return decorate


class Screen:
    """Where a command prints: results on stdout, everything else on stderr.

    Args:
        as_json: The result is one JSON value, an error included.
        verbosity: -1 for errors only, 0 for the result, 1 and more for details.
        outputs: Where CI systems are told of a verdict; None where nothing is judged.
    """

    def __init__(
        self, as_json: bool, verbosity: int, outputs: CiOutputs | None = None
    ) -> None:
        self.as_json = as_json
        self.verbosity = verbosity
        self.outputs = outputs

    @property
    def console(self) -> Console:
        """A console on stdout; lines are not wrapped where nobody watches."""
        from rich.console import Console

        width = None if sys.stdout.isatty() else 160
        # Names from files may hold brackets; they are no markup.
        return Console(width=width, highlight=False, markup=False, emoji=False)

    def progress(self) -> Progress:
        """Bars on a terminal, plain lines elsewhere, nothing where it would disturb."""
        if self.verbosity < 0:
            from tcn_export.progress import Silent

            return Silent()
        from tcn_export.cli.progress import LineProgress, RichProgress

        return RichProgress() if sys.stderr.isatty() else LineProgress()

    def result(
        self, as_json: Callable[[], Any], *tables: Callable[[], RenderableType]
    ) -> None:
        """Print the result, in the form that was asked for."""
        if self.as_json:
            click.echo(json.dumps(as_json(), indent=2, ensure_ascii=False, allow_nan=False))
        elif self.verbosity >= 0:
            for table in tables:
                self.console.print(table())

    def judged(self, report: ParityReport, manifest: Manifest, path: Path) -> None:
        """Tell CI systems of a verdict, before the result is printed.

        Raises:
            OutputError: A file that was asked for cannot be written.
        """
        assert self.outputs is not None
        self.outputs.judged(report, manifest, str(path))

    def warnings(self, dependence: Mapping[str, Any] | None) -> None:
        """Print what a manifest says of a window that does not fit its network."""
        if self.verbosity >= 0 and dependence is not None:
            for warning in dependence["warnings"]:
                self.warn(warning)

    def warn(self, warning: str) -> None:
        """Print what the result alone might not make clear."""
        if self.verbosity >= 0:
            click.echo(f"Warning: {warning}", err=True)

    def failure(self, line: str) -> None:
        """Print under ``--quiet`` what must not go unsaid."""
        if self.verbosity < 0 and not self.as_json:
            click.echo(line, err=True)

    def error(self, error: ExportError) -> None:
        """Print an error; under ``--json`` also as JSON on stdout."""
        if self.as_json:
            entry = {
                "kind": type(error).__name__,
                "message": str(error),
                "exit_code": error.exit_code,
            }
            click.echo(json.dumps({"error": entry}, indent=2, ensure_ascii=False))
        click.echo(f"Error: {error}", err=True)
