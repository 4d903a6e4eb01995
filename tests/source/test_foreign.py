"""Networks that the user's own factory makes: what is found out, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from networks import MEAN, STEPS, answering
from tcn_export.errors import FactoryError
from tcn_export.source.foreign import load_factory

EVERY_STEP = answering("self.head(self.features(x).transpose(1, 2)).transpose(1, 2)")
FLATTENED = """
class Flat(Net):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8 * 12, 4)
    def forward(self, x):
        return self.head(self.features(x).flatten(1))
make = Flat
"""
VIEWED = FLATTENED.replace(".flatten(1)", ".reshape(-1, 8 * 12)")


def test_a_network_becomes_a_source_in_eval_mode(write):
    write("make = Net")
    source = load_factory("mine:make", (3, STEPS))
    assert (source.name, source.kind, source.path) == ("make", "factory", None)
    assert (source.architecture, source.origin) == ("mine:make", "mine:make")
    assert (source.length, source.task, source.channels) == (STEPS, "classification", 3)
    assert source.classes == ("0", "1", "2", "3")
    assert source.signature.inputs[0].shape == ("batch", 3, "length")
    assert source.signature.outputs[0].shape == ("batch", 4)
    assert source.signature.outputs[0].name == "logits"
    assert not source.module.training
    assert source.parameters == 3 * 8 * 3 + 8 + 8 * 4 + 4
    assert (source.center.tolist(), source.spread.tolist()) == ([0.0] * 3, [1.0] * 3)


@pytest.mark.parametrize(
    ("code", "length", "is_dynamic", "taken", "answer", "time_axis"),
    [
        (EVERY_STEP, None, False, "length", (4, "length"), 2),
        (EVERY_STEP, 7, False, "length", (4, "length"), 2),
        (EVERY_STEP, None, True, "length", (4, "length"), 2),
        ("make = Net", None, True, "length", (4,), None),
        (answering("self.features(x)[:, :, ::2]"), None, False, "length", (8, 6), None),
        (answering("self.features(x)[:, :, ::2]"), 20, False, "length", (8, 10), None),
        (answering("self.features(x)[:, :, -5:]"), None, True, "length", (8, 5), None),
        (answering("self.features(x).flatten(1)"), None, False, "length", (96,), None),
        (FLATTENED, None, False, STEPS, (4,), None),
        (VIEWED, None, False, STEPS, (4,), None),
    ],
)
def test_axes_that_follow_the_length_are_found(
    write, code, length, is_dynamic, taken, answer, time_axis
):
    write(code)
    source = load_factory(
        "mine:make", (3, STEPS), "regression", length=length, is_dynamic=is_dynamic
    )
    (output,) = source.signature.outputs
    assert source.signature.inputs[0].shape == ("batch", 3, taken)
    assert (output.name, output.shape, output.time_axis) == (
        "forecast", ("batch", *answer), time_axis,
    )  # fmt: skip
    assert source.classes == ()
    assert source.length == (length or STEPS)


def test_arguments_go_to_the_factory(write):
    write("def make(outputs, scale=1): return Net(outputs)")
    source = load_factory("mine:make", (3, STEPS), arguments={"outputs": 6})
    assert source.signature.outputs[0].shape == ("batch", 6)
    assert source.config == {"outputs": 6}


def test_digest_follows_the_weights_and_a_factory_without_a_seed_gives_the_same_ones(write):
    write("make = Net\ndef other():\n    torch.manual_seed(7)\n    return Net()")
    state = torch.get_rng_state()
    first, other = (load_factory(f"mine:{n}", (3, STEPS)).sha256 for n in ("make", "other"))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert load_factory("mine:make", (3, STEPS)).sha256 == first != other


def test_modules_are_found_in_the_current_folder_only_while_importing(write, capsys):
    write("print('hello')\nclass Group:\n    make = Net")
    path = list(sys.path)
    assert load_factory("mine:Group.make", (3, STEPS)).name == "Group.make"
    assert sys.path == path
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "hello\n")


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
def test_weights_behind_hooks_of_old_can_be_copied(write):
    write(
        "def make():\n    net = Net()\n"
        "    net.conv = torch.nn.utils.weight_norm(net.conv)\n    return net"
    )
    source = load_factory("mine:make", (3, STEPS))
    with torch.inference_mode():
        assert np.isfinite(source.module(torch.ones(1, 3, STEPS)).numpy()).all()


MAKING = {
    "no such module": ("", "absent:make", "there is no module `absent`.*PYTHONPATH"),
    "no such name": ("make = Net", "mine:mkae", r"mine.py has no `mkae`.*It holds make\."),
    "import of its own fails": (
        "import absent_package", "mine:make",
        r"importing `mine` raised ModuleNot.*'absent_package' \(.*mine.py:14, in <module>\)",
    ),
    "syntax": ("def make(:", "mine:make", r"raised SyntaxError.*mine.py:14\)"),
    "exits": ("raise SystemExit(0)", "mine:make", "importing `mine` raised SystemExit: 0"),
    "not callable": ("make = {'a': 1}", "mine:make", "is a dict, which cannot be called"),
    "a network": ("make = Net()", "mine:make", "a network, not a factory.*return make`"),
    "TorchScript": (
        "def make():\n    return torch.jit.trace(Net().eval(), torch.ones(1, 3, 12))",
        "mine:make", "returned a TorchScript module.*Return the eager module",
    ),
    "not a network": ("make = dict", "mine:make", "returned a dict; expected a torch.nn"),
    "raises": (
        "def make():\n    raise KeyError('no weights')", "mine:make",
        r"calling `mine:make` raised KeyError: 'no weights' \(.*mine.py:15, in make\)",
    ),
    "raises inside PyTorch": (
        "def make():\n    return nn.Conv1d(3, 4, kernel_size='three')", "mine:make",
        r"raised TypeError.*\(.*mine.py:15, in make\)",
    ),
    "missing argument": (
        "def make(width): return Net()", "mine:make",
        r"given arguments \(none\): missing a required argument: 'width'. It takes \(width\)",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*deprecated")
@pytest.mark.parametrize("case", MAKING)
def test_what_cannot_be_made_is_refused_with_its_place(write, case):
    code, factory, message = MAKING[case]
    write(code)
    with pytest.raises(FactoryError, match=message):
        load_factory(factory, (3, STEPS))


def test_surplus_arguments_are_refused(write):
    write("make = Net")
    with pytest.raises(FactoryError, match=r"\(width\): got an unexpected.*takes \(outputs=4"):
        load_factory("mine:make", (3, STEPS), arguments={"width": 3})


WEIGHTS = {
    "double": ("make = lambda: Net().double()", "`conv.weight` of .* is torch.float64"),
    "half": ("make = lambda: Net().half()", "is torch.float16; expected torch.float32"),
    "meta": ("make = lambda: Net().to('meta')", "is on meta; .*Return `model.cpu"),
    "lazy": ("make = lambda: nn.LazyConv1d(4, 3)", "`weight` .* has no size yet"),
    "NaN": (
        "def make():\n    net = Net()\n    net.head.bias.data[1] = torch.nan\n    return net",
        "1 of 4 values of `head.bias` .* are NaN or infinite",
    ),
}
ANSWERS = {
    "number": (f"{MEAN}.sum().item()", "answers with a float; expected a tensor, or a dict"),
    "number among tensors": (f"({MEAN}, [x, 'x'])", "answers with a str in its `1.1`; expect"),
    "nothing": ("None", "answers with nothing; expected a tensor"),
    "another dtype inside": (
        f"dict(top={MEAN}.argmax(1), logits={MEAN})", "in its `top` answers .* torch.int64",
    ),
    "another number each time": (
        f"({MEAN},) * (1 + (x.shape[2] > 12))", "answers with 1 and 2 tensors at 12 and 25",
    ),
    "class indices": (f"{MEAN}.argmax(1)", "answers torch.float32 with torch.int64"),
    "one dimension": (f"{MEAN}[:, 0]", r"with the shape \(1,\); expected \(batch, outputs\)"),
    "two of one path": (
        f"{{'a.b': {MEAN}, 'a': {{'b': 2 * {MEAN}}}, 'c': x}}",
        "two tensors under `a.b`: keys",
    ),
    "two of one key": (f"{{1: {MEAN}, '1': 2 * {MEAN}}}", "two tensors under `1`: keys"),
    "four dimensions": ("self.features(x)[None]", r"with the shape \(1, 1, 8, 12\)"),
    "squeezed batch": (f"{MEAN}.squeeze()", r"\(1, 3, 12\) with the shape \(4,\).*squeeze"),
    "batch behind": (f"{MEAN}.T", r"\(1, 3, 12\) with the shape \(4, 1\); .* batch of 1"),
    "outputs follow the batch": (
        f"{MEAN}.repeat(1, len(x))", "answers depends on the batch: .4,., .8,. and .12,.",
    ),
    "NaN": (f"{MEAN} * torch.nan", "4 of 4 values that .* are NaN or infinite"),
    "infinite": (f"{MEAN} / 0", "4 of 4 values that .* are NaN or infinite"),
    "time in the middle": (
        "self.head(self.features(x).transpose(1, 2))", r"\(batch, steps, outputs\).*transpose",
    ),
    "dropout": (f"F.dropout({MEAN}, 0.5)", "differently each time, in eval mode"),
    "in place": ("self.head(self.features(x.mul_(2)).mean(-1))", "changes its input while"),
    "constants in single": (
        "self.head((self.features(x) @ torch.ones(12, 1))[:, :, 0])",
        "on torch.float64 of .*The float64 copy is what",
    ),
    "attention weights": (
        f"({MEAN}, self.features(x)[None])", "return only the outputs that have this form",
    ),
    "wrong channels": ("self.head(F.conv1d(x, torch.ones(8, 5, 3)).mean(-1))",
        r"\(1, 3, 12\) raised RuntimeError: .*5 channels.* \(.*py:17, in forward\).*--input",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (
            "self.norm.train()",
            "changes its `norm.running_mean` .*: its BatchNorm is put into tr",
        ),
        ("self.norm.num_batches_tracked += 1", "changes its `norm.num_batches_tracked` while"),
        ("self.conv.bias.data.add_(1)", "changes its `conv.bias` while it runs. Expected"),
    ],
)
def test_networks_that_running_changes_are_refused(write, forward, message):
    write(
        "class Odd(Net):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n        self.norm = nn.BatchNorm1d(8)\n"
        f"    def forward(self, x):\n        {forward}\n"
        "        return self.head(self.norm(self.features(x)).mean(-1))\nmake = Odd"
    )
    with pytest.raises(FactoryError, match=message):
        load_factory("mine:make", (3, STEPS))


@pytest.mark.parametrize("takes", ["x, mask", "*, x", "", "x, y, z=1"])
def test_networks_that_take_no_single_signal_are_to_be_wrapped(write, takes):
    write(f"class Odd(Net):\n    def forward(self, {takes}):\n        return 1\nmake = Odd")
    with pytest.raises(FactoryError, match=r"expected one signal .*Wrap it in a module that"):
        load_factory("mine:make", (3, STEPS))


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_cannot_be_exported_are_refused(write, case):
    code, message = WEIGHTS[case]
    write(code)
    with pytest.raises(FactoryError, match=message):
        load_factory("mine:make", (3, STEPS))


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_that_cannot_be_exported_are_refused(write, case):
    expression, message = ANSWERS[case]
    write(answering(expression))
    with pytest.raises(FactoryError, match=message):
        load_factory("mine:make", (3, STEPS))


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        (FLATTENED, {"length": 13}, r"\(1, 3, 13\) raised .*--length asks for it"),
        (FLATTENED, {"is_dynamic": True}, r"\(1, 3, 25\) raised .*--length dynamic asks for"),
        (
            answering("self.features(x)[:, :, ::2]"), {"is_dynamic": True},
            r"\(8, 6\), \(8, 13\), \(8, 3\) at 12, 25, 6 steps. With --length dynamic",
        ),
        (answering("self.features(x).flatten(1)"), {"is_dynamic": True}, "same size always"),
        (
            answering("self.features(x) if x.shape[2] == 12 else self.features(x)[:, :, 0]"),
            {"length": 13}, r"\(8,\) and \(8, 12\) at 13 and 12 steps",
        ),
    ],
)  # fmt: skip
def test_lengths_that_a_network_does_not_run_at_are_refused(write, code, options, message):
    write(code)
    with pytest.raises(FactoryError, match=message):
        load_factory("mine:make", (3, STEPS), **options)
