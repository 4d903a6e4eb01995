from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tcn_export.models.blocks import (
    CausalConv1d,
    Normalize,
    ResidualBlock1d,
    SameConv1d,
    TemporalBlock,
    WangBlock,
)


@given(
    kernel=st.integers(1, 9),
    dilation=st.integers(1, 12),
    length=st.integers(1, 30),
    padding=st.sampled_from(["left", "crop"]),
)
def test_causal_convolution_is_its_formula(kernel, dilation, length, padding):
    torch.manual_seed(0)
    conv = CausalConv1d(2, 3, kernel, dilation, padding).double()
    x = torch.randn(2, 2, length, dtype=torch.float64)
    # y[t] = sum_k w[k] x[t - d*k]; torch stores the taps from the oldest to the newest
    taps = conv.weight.detach().flip(-1).numpy()
    expected = np.tile(conv.bias.detach().numpy()[None, :, None], (2, 1, length))
    for t in range(length):
        for k in range(kernel):
            if t - dilation * k >= 0:
                expected[:, :, t] += x[:, :, t - dilation * k].numpy() @ taps[:, :, k].T
    np.testing.assert_allclose(conv(x).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_kernel_of_one_keeps_every_step_when_cropping():
    conv = CausalConv1d(2, 3, 1, dilation=4, causal_padding="crop")
    assert conv(torch.randn(1, 2, 10)).shape == (1, 3, 10)


@pytest.mark.parametrize("kernel", range(1, 10))
def test_same_convolution_keeps_the_length(kernel):
    assert SameConv1d(2, 3, kernel)(torch.randn(1, 2, 17)).shape == (1, 3, 17)


def test_same_convolution_pads_an_even_kernel_more_on_the_right():
    conv = SameConv1d(1, 1, 4)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[1.0, 10.0, 100.0, 1000.0]]]))
        conv.bias.zero_()
    impulse = torch.zeros(1, 1, 7)
    impulse[0, 0, 3] = 1
    # Keras: one step left, two right, so tap 1 sits on the step itself
    assert conv(impulse)[0, 0].tolist() == [0, 1000, 100, 10, 1, 0, 0]


@pytest.mark.parametrize("kernel", [1, 3, 4, 8])
def test_residual_block_is_its_formula(kernel):
    block = ResidualBlock1d(4, kernel).eval()
    x = torch.randn(2, 4, 15)
    inner = torch.relu(block.bn1(block.conv1(x)))
    assert torch.equal(block(x), torch.relu(block.bn2(block.conv2(inner)) + x))


@given(
    kernel=st.integers(1, 6),
    dilation=st.integers(1, 8),
    convolutions=st.integers(1, 2),
    norm=st.sampled_from(["batch", "weight", "none"]),
    padding=st.sampled_from(["left", "crop"]),
    step=st.integers(0, 19),
)
def test_temporal_block_sees_no_future(kernel, dilation, convolutions, norm, padding, step):
    torch.manual_seed(0)
    block = TemporalBlock(
        2,
        3,
        kernel,
        dilation,
        convolutions=convolutions,
        norm=norm,
        dropout=0.2,
        causal_padding=padding,
    )
    block.eval()
    x = torch.randn(1, 2, 20)
    changed = x.clone()
    changed[:, :, step] += 1
    assert torch.equal(block(x)[:, :, :step], block(changed)[:, :, :step])


def test_cropped_and_left_padded_blocks_are_the_same_function():
    torch.manual_seed(0)
    left = TemporalBlock(3, 5, 3, 4, convolutions=2).eval()
    crop = TemporalBlock(3, 5, 3, 4, convolutions=2, causal_padding="crop").eval()
    crop.load_state_dict(left.state_dict())
    x = torch.randn(2, 3, 20)
    torch.testing.assert_close(left(x), crop(x))


def test_temporal_block_has_a_shortcut_only_where_channels_differ():
    assert TemporalBlock(3, 3, 3, 1).shortcut is None
    assert TemporalBlock(3, 4, 3, 1).shortcut is not None


def test_wang_block_normalises_its_shortcut_even_where_channels_agree():
    assert [type(m).__name__ for m in WangBlock(4, 4).shortcut] == ["BatchNorm1d"]
    assert [type(m).__name__ for m in WangBlock(3, 4).shortcut] == ["Conv1d", "BatchNorm1d"]


def test_normalize_gives_zero_mean_and_unit_deviation():
    torch.manual_seed(0)
    x = (
        torch.randn(50, 2, 30) * torch.tensor([3.0, 0.01])[:, None]
        + torch.tensor([9.81, -5])[:, None]
    )
    layer = Normalize(2)
    layer.fit(x)
    y = layer(x)
    torch.testing.assert_close(y.mean(dim=(0, 2)), torch.zeros(2), rtol=0, atol=2e-4)
    torch.testing.assert_close(
        y.std(dim=(0, 2), correction=0), torch.ones(2), rtol=1e-4, atol=0
    )


def test_normalize_leaves_a_constant_channel_finite():
    x = torch.full((4, 1, 10), 9.81)
    layer = Normalize(1)
    layer.fit(x)
    assert layer(x).abs().max() < 1e-5
