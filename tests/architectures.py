"""Random networks, and some that chance once found."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from torch import nn

from tcn_export.models.resnet1d import ResNet1dConfig, WangResNetConfig
from tcn_export.models.tcn import TCNConfig
from user_networks import network

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


@dataclass(frozen=True)
class UserNetwork:
    """A network of the user's own (`user_networks`), with the windows that it takes.

    ``receptive_field`` and ``lookahead`` are those of the book: what every kernel adds.
    """

    arguments: dict
    length: int
    factory: str = "user_networks:network"

    def make(self) -> nn.Module:
        return network(**self.arguments)

    @property
    def input_shape(self) -> tuple[int, int]:
        return self.arguments["channels"], self.length

    @property
    def receptive_field(self) -> int:
        return 1 + sum(reach for reach, _ in self._kernels())

    @property
    def lookahead(self) -> int:
        is_same = self.arguments["padding"] == "same"
        return sum(stride * (reach // stride - reach // stride // 2)
                   for reach, stride in self._kernels() if is_same)  # fmt: skip

    def _kernels(self):
        """Per convolution: steps of the signal that its kernel adds, and the unit of it."""
        stride, shape = 1, self.arguments
        for dilation, step in zip(shape["dilations"], shape["strides"], strict=True):
            for i in range(shape["convolutions"]):
                yield stride * (shape["kernel"] - 1) * dilation, stride
                stride *= 1 if i else step


LONGEST = 600


@st.composite
def user_networks(draw, heads=("last", "every", "mean", "step", "tail", "only")):
    """Causal and non-causal networks, with windows shorter and longer than they reach."""
    groups = draw(st.integers(1, 3))
    levels = draw(st.integers(1, 4))
    padding = draw(st.sampled_from(["crop", "left", "same", "none"]))
    near, far = st.integers(1, 6), st.integers(1, 64)
    stride = st.just(1) if padding == "none" else st.sampled_from([1, 1, 1, 2, 3])
    arguments = {
        "seed": draw(st.integers(0, 99)),
        "channels": draw(st.integers(1, 3)),
        "outputs": draw(st.integers(1, 3)),
        "width": groups * draw(st.integers(1, 3)),
        "dilations": [draw(st.one_of(near, near, far)) for _ in range(levels)],
        "strides": [draw(stride) for _ in range(levels)],
        "kernel": draw(st.integers(1, 9)),
        "head": draw(st.sampled_from(heads)),
        "skips": draw(st.booleans()),
        "groups": groups,
        "convolutions": draw(st.integers(1, 2)),
        "padding": padding,
        "residual": draw(st.booleans()),
        "gate": draw(st.booleans()),
        "norm": draw(st.booleans()),
        "activation": draw(st.sampled_from(["relu", "leaky", "gelu", "tanh"])),
    }
    if len(set(arguments["strides"])) > 1 or arguments["strides"][0] > 1:
        arguments["skips"] = False  # their lengths would differ
    reach = UserNetwork(arguments, 0).receptive_field
    is_long = padding == "none" or draw(st.booleans())
    if is_long and reach > LONGEST:
        arguments["dilations"] = [1] * levels
        arguments["kernel"] = min(arguments["kernel"], 5)
        reach = UserNetwork(arguments, 0).receptive_field
    more = draw(st.integers(4, 40))
    few = st.integers(4, max(4, min(reach, LONGEST)))
    return UserNetwork(arguments, reach + more if is_long else draw(few))
