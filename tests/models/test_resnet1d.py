from __future__ import annotations

import pytest
import torch

from tcn_export.models.resnet1d import ResNet1d, ResNet1dConfig, WangResNet, WangResNetConfig


@pytest.mark.parametrize("kernel", [3, 4, 5, 8])
@pytest.mark.parametrize("length", [24, 25])
def test_answers_once_per_window_for_odd_and_even_kernels_and_lengths(kernel, length):
    config = ResNet1dConfig(in_channels=3, outputs=5, kernel_size=kernel, stem_kernel=kernel)
    assert ResNet1d(config)(torch.randn(2, 3, length)).shape == (2, 5)


def test_stages_change_width_and_halve_the_length():
    config = ResNet1dConfig(in_channels=3, outputs=5, widths=(4, 8, 16), strides=(1, 2, 2))
    model = ResNet1d(config)
    assert model.stages(model.stem(torch.randn(1, 3, 32))).shape == (1, 16, 8)


def test_wang_preset_has_the_published_size():
    # about 504k parameters for one input channel (data/PUBLISHED.md)
    model = WangResNet(WangResNetConfig(in_channels=1, outputs=2))
    assert 503_000 < sum(p.numel() for p in model.parameters()) < 505_000
    convs = [m for m in model.blocks.modules() if isinstance(m, torch.nn.Conv1d)]
    body = [c.kernel_size[0] for c in convs if c.kernel_size[0] > 1]
    assert body == [8, 5, 3] * 3
    assert [c.out_channels for c in convs if c.kernel_size[0] == 8] == [64, 128, 128]


def test_strides_and_widths_must_agree():
    with pytest.raises(ValueError, match="`widths` has 2 stages and `strides` has 3"):
        ResNet1dConfig(in_channels=3, outputs=5, widths=(4, 8), strides=(1, 2, 2))
