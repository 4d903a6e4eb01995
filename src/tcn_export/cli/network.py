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
        help="Makes a network of your own, with its weights, where no MODEL is given.",
    ),
    click.option("--factory-args", type=Arguments(), help="Keyword arguments of the factory."),
    click.option("--input-shape", type=Shape(), help="Of a factory's network: one window."),
    click.option(
        "--task",
        type=Choice(["classification", "regression"]),
        help="What the outputs of a factory's network mean.  [default: classification]",
    ),
)


def network_options(function: CommandT) -> CommandT:
    """Give a command the options that tell of a network."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
