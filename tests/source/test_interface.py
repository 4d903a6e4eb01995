"""What foreign networks take and give: axes, names, order."""

from __future__ import annotations

import pytest
import torch

from networks import MEAN, STEPS, answering
from tcn_export.errors import FactoryError, UsageError
from tcn_export.source.foreign import load_factory

NLC = """
class Nlc(Net):
    def forward(self, x):
        h = self.features(x.transpose(1, 2))
        return {"hidden": h.transpose(1, 2), "logits": self.head(h.mean(-1))}
make = Nlc
"""


@pytest.mark.parametrize(
    ("expression", "names", "time_axes"),
    [
        ("(MEAN, self.features(x))", ["logits", "output_1"], [None, 2]),
        (
            "[MEAN, None, [x, MEAN]]",
            ["logits", "output_2.0", "output_2.1"],
            [None, 2, None],
        ),
        ("dict(hidden=self.features(x), scores=MEAN)", ["hidden", "scores"], [2, None]),
        ("{'hidden': self.features(x), 'logits': MEAN}", ["logits", "hidden"], [None, 2]),
        ("{'signal': MEAN, 'a b': x}", ["signal_2", "a_b"], [None, 2]),
        ("Pair(MEAN, x)", ["scores", "rest"], [None, 2]),
        ("Fields(MEAN, x)", ["scores", "rest"], [None, 2]),
    ],
)
def test_several_answers_are_told_apart_by_name_the_answer_first(
    write, expression, names, time_axes
):
    write(
        "import collections, dataclasses\n"
        "Pair = collections.namedtuple('Pair', 'scores rest')\n"
        "Fields = dataclasses.make_dataclass('Fields', ['scores', 'rest'])\n"
        + answering(expression.replace("MEAN", MEAN))
    )
    source = load_factory("mine:make", (3, STEPS))
    assert [spec.name for spec in source.signature.outputs] == names
    assert [spec.time_axis for spec in source.signature.outputs] == time_axes
    with torch.no_grad():
        values = source.module(torch.ones(2, 3, STEPS))
    for value, spec in zip(values, source.signature.with_length(STEPS).outputs, strict=True):
        assert spec.accepts(tuple(value.shape))


@pytest.mark.parametrize(
    ("answer", "expression"),
    [
        ("hidden", "{'logits': MEAN, 'hidden': self.features(x)}"),
        ("1", "(MEAN, self.features(x))"),
    ],
)
def test_the_user_says_which_answer_counts(write, answer, expression):
    write(answering(expression.replace("MEAN", MEAN)))
    source = load_factory("mine:make", (3, STEPS), answer=answer)
    assert source.signature.outputs[0].shape == ("batch", 8, "length")
    assert len(source.classes) == 8
    with pytest.raises(UsageError, match=r"--answer nothing: `mine:make` answers with .*Name"):
        load_factory("mine:make", (3, STEPS), answer="nothing")


@pytest.mark.parametrize("layout", [None, "NLC"])
def test_networks_that_take_steps_before_channels_are_turned(write, layout):
    write(NLC)
    source = load_factory("mine:make", (3, STEPS), layout=layout)
    assert source.signature.inputs[0].shape == ("batch", 3, "length")
    shapes = {spec.name: spec.shape for spec in source.signature.outputs}
    assert shapes == {"logits": ("batch", 4), "hidden": ("batch", 8, "length")}
    (note,) = source.notes
    assert note.startswith("the network takes (batch, steps, channels), the artifact (batch")
    assert ("found by running it" in note) == (layout is None)
    x = torch.randn(2, 3, STEPS)
    with torch.no_grad():
        logits, hidden = source.module(x)
        plain = source.module.network(x.transpose(1, 2))
    assert torch.equal(logits, plain["logits"])
    assert torch.equal(hidden, plain["hidden"].transpose(1, 2))


@pytest.mark.parametrize(
    ("forward", "note"),
    [
        ("self.linear(x).mean(1)", "takes (batch, steps, channels)"),
        (
            "x.amax((1, 2))[:, None] * self.conv.bias",
            "runs both ways; taken as (batch, channels",
        ),
        ("self.conv(x.transpose(1, 2)).mean(-1)", "takes (batch, steps, channels)"),
        ("self.conv(x).mean(-1)", None),
    ],
)
def test_as_many_channels_as_steps_are_told_by_other_lengths_or_noted(write, forward, note):
    write(
        "class Square(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv, self.linear = nn.Conv1d(12, 4, 3), nn.Linear(12, 4)\n"
        f"    def forward(self, x):\n        return {forward}\nmake = Square\n"
    )
    notes = load_factory("mine:make", (12, 12)).notes
    assert len(notes) == (note is not None)
    assert note is None or note in notes[0]


def test_a_shape_given_the_wrong_way_round_is_no_layout(write):
    write("make = Net")
    with pytest.raises(FactoryError, match=r"\(1, 12, 3\) raised .*--input-shape"):
        load_factory("mine:make", (12, 3), layout="NCL")
    with pytest.raises(
        FactoryError, match=r"not run on \(batch, 12, 3\), but on .*shape 3,12"
    ):
        load_factory("mine:make", (STEPS, 3))


def test_dropout_modules_left_in_train_mode_are_switched_off(write):
    write(
        "class Dropping(Net):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.drop, self.norm = nn.Dropout(0.5), nn.BatchNorm1d(8)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.drop(self.norm(self.features(x))).mean(-1))\n"
        "def make():\n    return Dropping().train()"
    )
    source = load_factory("mine:make", (3, STEPS))
    assert not any(module.training for module in source.module.modules())


DEAD = {
    "seed": 0, "channels": 1, "outputs": 1, "width": 2, "dilations": [1], "strides": [1],
    "kernel": 1, "head": "last", "skips": False, "groups": 2, "convolutions": 1,
    "padding": "crop", "residual": False, "gate": False, "norm": False, "activation": "relu",
}  # fmt: skip
DEAF = {
    **DEAD, "seed": 52, "outputs": 2, "dilations": [4, 5, 1, 4], "strides": [1] * 4,
    "groups": 1, "convolutions": 2, "norm": True, "activation": "leaky",
}  # fmt: skip


@pytest.mark.parametrize("arguments", [DEAD, DEAF], ids=["dead", "deaf"])
def test_a_network_that_hardly_hears_its_signal_is_not_taken_for_one_that_rounds(arguments):
    """Units are dead for some windows; or eight leaky ones leave a sixteenth decimal."""
    source = load_factory("user_networks:network", (1, 4), arguments=arguments)
    assert source.channels == 1
