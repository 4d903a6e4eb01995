"""torch.export programs: they compute what the network computed, whatever it was made of."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.export import Dim

from programs import STEPS, Net, save
from tcn_export.errors import UnsupportedModelError, UsageError
from tcn_export.source.base import Told
from tcn_export.source.program import load_program
from tcn_export.source.reading import read_source


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def own(module, **options):
    return save(module.eval(), Path("own.pt2"), **options)


def test_a_program_becomes_a_source_that_runs_in_both_precisions():
    net = Net().eval()
    path = own(net)
    source = read_source(path, Told())
    assert (source.name, source.kind, source.path) == ("own", "program", path)
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.signature.inputs[0].shape == ("batch", 3, STEPS)
    assert source.signature.outputs[0].shape == ("batch", 5)
    assert (source.length, len(source.classes), source.only_single) == (STEPS, 5, "")
    x = torch.randn(3, 3, STEPS)
    with torch.no_grad():
        torch.testing.assert_close(source.module(x), net(x), rtol=1e-6, atol=1e-6)
        double = copy.deepcopy(source.module).double()(x.double())
        torch.testing.assert_close(
            double, copy.deepcopy(net).double()(x.double()), rtol=1e-13, atol=1e-13
        )


LAYERS = {
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 3, 3)),
    "weight norm of old": lambda: nn.utils.weight_norm(nn.Conv1d(3, 3, 3)),
    "groups": lambda: nn.Conv1d(3, 6, 3, groups=3, dilation=2, padding=2),
    "transposed": lambda: nn.ConvTranspose1d(3, 4, 3, stride=2),
    "pools": lambda: nn.Sequential(nn.MaxPool1d(2), nn.AvgPool1d(2)),
    "adaptive": lambda: nn.AdaptiveAvgPool1d(4),
    "layer norm": lambda: nn.LayerNorm(STEPS),
    "group norm": lambda: nn.GroupNorm(1, 3),
    "instance norm": lambda: nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
    "activations": lambda: nn.Sequential(
        nn.GELU(), nn.SiLU(), nn.ELU(), nn.Hardswish(), nn.LeakyReLU(0.1), nn.PReLU(3),
        nn.Mish(), nn.Softplus(), nn.ReLU6(),
    ),
    "softmax": lambda: nn.Softmax(1),
    "gates": lambda: nn.Sequential(nn.Conv1d(3, 6, 1), nn.GLU(1)),
    "reflected": lambda: nn.ReflectionPad1d(2),
    "attention": lambda: nn.TransformerEncoderLayer(
        STEPS, 2, 8, dropout=0.1, batch_first=True, norm_first=True
    ),
    "upsampled": lambda: nn.Upsample(scale_factor=2),
}  # fmt: skip


@pytest.mark.filterwarnings(
    "ignore:.*weight_norm.*deprecated", "ignore:The tensor attribute self.weight"
)
@pytest.mark.parametrize("case", LAYERS)
def test_layers_compute_the_same_in_both_precisions(case):
    torch.manual_seed(0)
    layer = LAYERS[case]().eval()
    module = load_program(own(layer), Told(layout="NCL")).module
    x = torch.randn(3, 3, STEPS)
    with torch.no_grad():
        torch.testing.assert_close(module(x), layer(x), rtol=1e-6, atol=1e-6)
        module.double()
        want = layer.double()(x.double())
        torch.testing.assert_close(module(x.double()), want, rtol=1e-12, atol=1e-12)


class Scaled(nn.Module):
    """Constants of every kind: a buffer, one that is not saved, a tensor made in forward."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.randn(3, 1))
        self.register_buffer("spread", torch.rand(3, 1) + 0.5, persistent=False)
        self.shift = torch.randn(3, 1)

    def forward(self, x):
        y = (x - self.mean) / self.spread + self.shift
        return y * torch.arange(x.shape[-1]) + torch.ones(1)


def test_constants_come_along_and_are_computed_in_double():
    net = Scaled().eval()
    module = load_program(own(net), Told(layout="NCL")).module
    x = torch.randn(2, 3, STEPS)
    torch.testing.assert_close(module(x), net(x))
    net.shift = net.shift.double()
    want = net.double()(x.double())
    got = module.double()(x.double())
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-13)


@given(
    kernel=st.integers(1, 5),
    dilation=st.integers(1, 4),
    stride=st.integers(1, 2),
    bias=st.booleans(),
    padding=st.integers(0, 4),
)
def test_convolutions_of_any_form_compute_the_same(
    kernel, dilation, stride, bias, padding, tmp_path_factory
):
    conv = nn.Conv1d(3, 4, kernel, stride, padding, dilation, bias=bias).eval()
    if STEPS + 2 * padding <= dilation * (kernel - 1):
        return
    path = save(conv, tmp_path_factory.getbasetemp() / "drawn.pt2")
    module = load_program(path, Told()).module
    x = torch.randn(2, 3, STEPS)
    with torch.no_grad():
        torch.testing.assert_close(module(x), conv(x), rtol=1e-6, atol=1e-6)


def test_copies_in_double_run_at_shapes_that_were_never_run():
    net = Net().eval()
    double = copy.deepcopy(load_program(own(net), Told()).module).double()
    x = torch.randn(7, 3, STEPS).double()
    torch.testing.assert_close(double(x), net.double()(x), rtol=1e-12, atol=1e-12)


def test_structures_of_answers_keep_their_names():
    net = Net(lambda net, h: {"hidden": h, "more": (net.head(h.mean(-1)), None, [h * 2])})
    source = load_program(own(net), Told(answer="more.0"))
    assert [(s.name, s.shape) for s in source.signature.outputs] == [
        ("more.0", ("batch", 5)), ("hidden", ("batch", 4, STEPS)),
        ("more.2.0", ("batch", 4, STEPS)),
    ]  # fmt: skip


LENGTHS = ({0: Dim("batch", min=1), 2: Dim("steps", min=4, max=64)},)


def test_an_open_length_is_kept_within_what_the_program_allows():
    path = own(Net(), dynamic=LENGTHS)
    source = load_program(path, Told(input_shape=(3, 20), is_dynamic=True))
    assert source.signature.inputs[0].shape == ("batch", 3, "length")
    assert source.length == 20
    with pytest.raises(UsageError, match=r"takes 4 to 64 steps; 65 were asked"):
        load_program(path, Told(input_shape=(3, 65)))
    with pytest.raises(
        UsageError, match=r"leaves the length of a window open.*shape 3,LENGTH"
    ):
        load_program(path, Told())


@pytest.mark.parametrize("first", [nn.Linear(STEPS, 4), nn.LayerNorm(STEPS)])
def test_an_axis_that_no_convolution_tells_is_asked_for(first):
    net = nn.Sequential(first, nn.Flatten(), nn.Linear(first(torch.ones(3, STEPS)).numel(), 4))
    path = own(net)
    with pytest.raises(UsageError, match=r"does not show which axis .*--input-layout NCL"):
        load_program(path, Told())
    assert load_program(path, Told(layout="NCL")).signature.inputs[0].shape[1] == 3
    assert load_program(path, Told(layout="NLC")).signature.inputs[0].shape[1] == STEPS
    assert load_program(path, Told(input_shape=(3, STEPS))).notes == ()


@pytest.mark.parametrize("told", [Told(), Told(layout="NLC"), Told(input_shape=(3, STEPS))])
def test_steps_before_channels_are_turned(told):
    class Turned(Net):
        def forward(self, x):
            return super().forward(x.transpose(1, 2))

    net = Turned().eval()
    source = load_program(own(net, shape=(2, STEPS, 3)), told)
    x = torch.randn(2, 3, STEPS)
    with torch.no_grad():
        torch.testing.assert_close(source.module(x), net(x.transpose(1, 2)))


def test_a_fixed_batch_is_opened_where_windows_do_not_mix():
    source = load_program(own(Net(), shape=(1, 3, STEPS), dynamic=None), Told())
    assert source.notes == ("the file's batch of 1 was opened; windows do not mix",)
    assert source.module(torch.randn(5, 3, STEPS)).shape == (5, 5)


def test_a_fixed_batch_that_holds_the_network_together_is_refused():
    mixing = Net(lambda net, h: net.head(h.mean(-1) - h.mean((0, 2))))
    path = own(mixing, dynamic=None)
    with pytest.raises(
        UnsupportedModelError, match=r"otherwise when there are others.*Dim\('b"
    ):
        load_program(path, Told())


@pytest.mark.parametrize("name", ["conv-1", "head out", "größe", "a,b", "1"])
def test_modules_may_have_any_printable_name(name):
    net = nn.Sequential()
    net.add_module(name, nn.Conv1d(3, 4, 3))
    module = load_program(own(net), Told()).module
    x = torch.randn(2, 3, STEPS)
    torch.testing.assert_close(module(x), net(x))
    assert name in dict(module.named_children())


def test_two_inputs_are_refused():
    class Two(nn.Module):
        def forward(self, x, mask):
            return x * mask

    x = torch.zeros(2, 3, STEPS)
    torch.export.save(torch.export.export(Two(), (x, x)), "own.pt2")
    with pytest.raises(UnsupportedModelError, match=r"takes 2 tensors .x, mask.; expected"):
        load_program(Path("own.pt2"), Told())
