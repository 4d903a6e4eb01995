from __future__ import annotations

import re

import pytest
import torch

from tcn_export.models import ARCHITECTURES, build, describe
from tcn_export.models.resnet1d import ResNet1dConfig, WangResNetConfig
from tcn_export.models.tcn import TCN, TCNConfig

TCN_SHAPE = {"in_channels": 3, "outputs": 5, "widths": (4, 6), "dilations": (1, 2)}


@pytest.mark.parametrize(
    ("head", "shape"), [("last", (2, 5)), ("mean", (2, 5)), ("every", (2, 5, 20))]
)
def test_heads_answer_once_or_at_every_step(head, shape):
    assert TCN(TCNConfig(**TCN_SHAPE, head=head))(torch.randn(2, 3, 20)).shape == shape


def test_last_head_answers_what_every_head_answers_at_the_last_step():
    last = TCN(TCNConfig(**TCN_SHAPE, head="last")).eval()
    every = TCN(TCNConfig(**TCN_SHAPE, head="every")).eval()
    state = last.state_dict()
    state["head.weight"] = state["head.weight"][:, :, None]
    every.load_state_dict(state)
    x = torch.randn(2, 3, 20)
    torch.testing.assert_close(every(x)[:, :, -1], last(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_size": 0}, "`kernel_size` (=0) must be an integer from 1"),
        ({"kernel_size": True}, "`kernel_size` (=True) must be an integer"),
        ({"kernel_size": 10**9}, "`kernel_size` (=1000000000) must be an integer"),
        ({"widths": ()}, "`widths` (=()) must hold 1 to"),
        ({"widths": (4, -1)}, "`widths[1]` (=-1)"),
        ({"widths": (4,) * 500, "dilations": (1,) * 500}, "must hold 1 to 128 integers"),
        ({"dilations": (1,)}, "`widths` has 2 blocks and `dilations` has 1"),
        ({"convolutions": 3}, "`convolutions` (=3) must be 1 or 2"),
        ({"norm": "layer"}, "`norm` (='layer') must be one of batch, weight, none"),
        ({"head": "first"}, "`head` (='first') must be one of last, every, mean"),
        ({"causal_padding": "both"}, "`causal_padding` (='both')"),
        ({"dropout": 1.0}, "`dropout` (=1.0) must be a number from 0 to below 1"),
    ],
)
def test_configuration_out_of_range_is_refused(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TCNConfig(**{**TCN_SHAPE, **change})


@pytest.mark.parametrize(
    "config",
    [
        TCNConfig(**TCN_SHAPE, norm="weight"),
        ResNet1dConfig(in_channels=3, outputs=2),
        WangResNetConfig(in_channels=1, outputs=2),
    ],
)
def test_configuration_survives_its_json_form(config):
    name, entries = describe(config)
    module = build(name, entries)
    assert type(module) is ARCHITECTURES[name].network
    assert describe(
        ARCHITECTURES[name].config(**{
            k: tuple(v) if isinstance(v, list) else v for k, v in entries.items()
        })
    ) == (name, entries)


def test_unknown_architecture_and_unknown_fields_are_refused():
    with pytest.raises(ValueError, match="'lstm' is none of tcn, resnet1d, resnet-wang"):
        build("lstm", {})
    with pytest.raises(ValueError, match="has the fields"):
        build("resnet-wang", {"in_channels": 1, "outputs": 2, "widths": [4], "code": "x"})
