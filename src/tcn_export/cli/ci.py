"""What a command that judges writes for CI: JUnit, Markdown, and annotations of GitHub."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tcn_export.errors import ExportError, OutputError, UsageError

if TYPE_CHECKING:
    from tcn_export.manifest import Manifest
    from tcn_export.parity.rows import ParityReport
    from tcn_export.report.words import Outcome

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path, dir_okay=False)


def ci_options(function: CommandT) -> CommandT:
    """Add the options that name the files to write."""
    wrapped: Any = function
    for option in (
        click.option("--markdown", type=_FILE, metavar="FILE", help="Write a short report."),
        click.option(
            "--junit", type=_FILE, metavar="FILE", help="Write the checks as JUnit XML."
        ),
    ):
        wrapped = option(wrapped)
    result: CommandT = wrapped
    return result


@dataclass(frozen=True, slots=True)
class CiOutputs:
    """Where one run of a command that judges tells CI of its outcome.

    Attributes:
        command: Name of the command.
        subject: What it judges, as the user named it.
        junit: The JUnit file to write; None for none.
        markdown: The Markdown file to write; None for none.
        is_stdout_taken: Whether stdout holds one JSON value and nothing else.
        began: When, by `time.monotonic`.
    """

    command: str
    subject: str
    junit: Path | None
    markdown: Path | None
    is_stdout_taken: bool
    began: float

    @classmethod
    def of(
        cls, context: click.Context, junit: Path | None, markdown: Path | None, as_json: bool
    ) -> CiOutputs:
        """Outputs of a command; its first argument or its factory is what it judges."""
        told = [context.params.get(name) for name in ("bundle", "model", "factory")]
        subject = next((str(value) for value in told if value is not None), "")
        module = getattr(context.command.callback, "__module__", "")
        command = f"tcn-{module.rpartition('.')[2]}"  # the name it was started by may differ
        return cls(command, subject, junit, markdown, as_json, time.monotonic())

    def check(self) -> None:
        """See before work is spent whether the files can be written.

        Raises:
            OutputError: One cannot.
            UsageError: Both are one.
        """
        from tcn_export.files import check_writable

        both = [file.resolve() for file in (self.junit, self.markdown) if file is not None]
        if len(both) == 2 and both[0] == both[1]:
            raise UsageError(f"--junit and --markdown both name {self.junit}: name two.")
        for file in (self.junit, self.markdown):
            if file is not None:
                check_writable(file.parent)

    def judged(self, report: ParityReport, manifest: Manifest, subject: str) -> None:
        """Tell of a verdict.

        Raises:
            OutputError: A file cannot be written.
        """
        from tcn_export.report.words import Outcome

        taken = time.monotonic() - self.began
        self._tell(Outcome(self.command, subject, taken, report, manifest))

    def failed(self, error: ExportError) -> None:
        """Tell of an error; that a file cannot be written is told on stderr alone."""
        from tcn_export.report.words import Outcome

        taken = time.monotonic() - self.began
        try:
            self._tell(Outcome(self.command, self.subject, taken, error=error))
        except OutputError as another:
            if str(another) != str(error):
                click.echo(f"Error: {another}", err=True)

    def _tell(self, outcome: Outcome) -> None:
        from tcn_export.files import append_text, write_bytes

        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if os.environ.get("GITHUB_ACTIONS"):
            from tcn_export.report.github import annotation_lines

            for line in annotation_lines(outcome):  # its runner reads both streams
                click.echo(line, err=self.is_stdout_taken)
        if self.junit is not None:
            from tcn_export.report.junit import junit_bytes

            write_bytes(self.junit, junit_bytes(outcome))
        if self.markdown is not None or summary:
            from tcn_export.report.markdown import markdown

            page = markdown(outcome)
            if self.markdown is not None:
                write_bytes(self.markdown, page.encode())
            if summary:
                try:
                    append_text(Path(summary), page + "\n")
                except OutputError as error:  # nobody asked for it by an option
                    click.echo(f"Warning: {error}", err=True)
