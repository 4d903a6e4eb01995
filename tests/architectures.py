"""Random networks, and some that chance once found."""

from __future__ import annotations

from hypothesis import strategies as st

from tcn_export.models.resnet1d import ResNet1dConfig, WangResNetConfig
from tcn_export.models.tcn import TCNConfig

SIZES = {"in_channels": st.integers(1, 4), "outputs": st.integers(1, 5)}
WIDTHS = st.lists(st.integers(1, 10), min_size=1, max_size=4).map(tuple)


@st.composite
def tcns(draw):
    widths = draw(WIDTHS)
    dilations = tuple(draw(st.integers(1, 9)) for _ in widths)
    return draw(
        st.builds(
            TCNConfig,
            widths=st.just(widths),
            dilations=st.just(dilations),
            kernel_size=st.integers(1, 6),
            convolutions=st.integers(1, 2),
            norm=st.sampled_from(["batch", "weight", "none"]),
            dropout=st.sampled_from([0.0, 0.5]),
            head=st.sampled_from(["last", "every", "mean"]),
            causal_padding=st.sampled_from(["left", "crop"]),
            **SIZES,
        )
    )


@st.composite
def resnets(draw):
    widths = draw(WIDTHS)
    strides = tuple(draw(st.integers(1, 3)) for _ in widths)
    return draw(
        st.builds(
            ResNet1dConfig,
            widths=st.just(widths),
            strides=st.just(strides),
            blocks=st.integers(1, 2),
            kernel_size=st.integers(1, 6),
            stem_kernel=st.integers(1, 6),
            **SIZES,
        )
    )


ARCHITECTURES = st.one_of(
    tcns(), resnets(), st.builds(WangResNetConfig, widths=st.just((4, 6, 6)), **SIZES)
)


UNLUCKY = (
    # Networks and feeds (zeros, single, large) on which eager float32 errs a tenth of what is
    # common for them, by luck.
    (WangResNetConfig(in_channels=1, outputs=1, widths=(4, 6, 6)), 4, True, 5),
    (
        ResNet1dConfig(
            in_channels=2,
            outputs=1,
            widths=(1, 1, 4, 7),
            strides=(3, 2, 2, 3),
            blocks=2,
            kernel_size=2,
            stem_kernel=1,
        ),
        15,
        False,
        1,
    ),
    (
        ResNet1dConfig(
            in_channels=1,
            outputs=3,
            widths=(8, 10, 3, 8),
            strides=(2, 2, 1, 1),
            blocks=2,
            kernel_size=5,
            stem_kernel=1,
        ),
        39,
        True,
        1,
    ),
)
