"""The networks that tcn-train trains, by the name that a checkpoint carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from tcn_export.models.config import Config, from_json, to_json
from tcn_export.models.resnet1d import ResNet1d, ResNet1dConfig, WangResNet, WangResNetConfig
from tcn_export.models.tcn import TCN, TCNConfig

__all__ = ["ARCHITECTURES", "Architecture", "build", "describe"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """A configuration class and the network that is built from it."""

    config: type[Config]
    network: Callable[[Any], nn.Module]


ARCHITECTURES: dict[str, Architecture] = {
    "tcn": Architecture(TCNConfig, TCN),
    "resnet1d": Architecture(ResNet1dConfig, ResNet1d),
    "resnet-wang": Architecture(WangResNetConfig, WangResNet),
}


def build(architecture: str, config: Mapping[str, Any]) -> nn.Module:
    """Build a network, with its initial weights, from the JSON form of its configuration.

    Raises:
        ValueError: The name or the configuration is not known to this version.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"the architecture {architecture!r} is none of {', '.join(ARCHITECTURES)}"
        )
    entry = ARCHITECTURES[architecture]
    return entry.network(from_json(entry.config, config))


def describe(config: Config) -> tuple[str, dict[str, Any]]:
    """The name and the JSON form of a configuration, as a checkpoint stores them."""
    for name, entry in ARCHITECTURES.items():
        if type(config) is entry.config:
            return name, to_json(config)
    raise ValueError(f"{type(config).__name__} belongs to no architecture")
