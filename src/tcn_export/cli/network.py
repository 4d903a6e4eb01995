"""The options that tell of a network of the user's own, for every command that takes one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from tcn_export.cli.common import Choice

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


class Shape(click.ParamType[tuple[int, int]]):
    """Channels and steps of a window, separated by a comma."""

    name = "channels,length"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Read the option."""
        parts: tuple[Any, ...] = str(value).partition(",")
        channels, _, length = parts
        positive = click.IntRange(min=1)
        try:
            return positive.convert(channels, param, ctx), positive.convert(length, param, ctx)
        except click.BadParameter:
            self.fail(
                f"{value!r} is not of the form CHANNELS,LENGTH, such as 9,512.", param, ctx
            )


class Arguments(click.ParamType[dict[str, Any]]):
    """A JSON object of keyword arguments."""

    name = "json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """Read the option."""
        try:
            arguments = json.loads(value)
        except json.JSONDecodeError as error:
            self.fail(f"{value!r} is not JSON: {error}.", param, ctx)
        if not isinstance(arguments, dict):
            self.fail(
                f"{value!r} is not a JSON object, such as '{{\"width\": 64}}'.", param, ctx
            )
        return arguments


_OPTIONS = (
    click.option(
        "--factory",
        metavar="MODULE:NAME",
        help="Makes a network of your own. MODEL holds its weights, or is left out.",
    ),
    click.option("--factory-args", type=Arguments(), help="Keyword arguments of the factory."),
    click.option("--input-shape", type=Shape(), help="Of a network of your own: one window."),
    click.option(
        "--input-layout",
        type=Choice(["NCL", "NLC"], {"ncl": "NCL", "nlc": "NLC"}),
        help="Its axes: N windows, C channels, L steps.  [default: found out]",
    ),
    click.option(
        "--task",
        type=Choice(["classification", "regression"]),
        help="What the outputs of a network of your own mean.  [default: classification]",
    ),
    click.option("--answer", help="Which of several outputs that is.  [default: the first]"),
)


def network_options(function: CommandT) -> CommandT:
    """Give a command the options that tell of a network."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
