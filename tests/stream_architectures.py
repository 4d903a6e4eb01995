"""Descriptions of random networks for streams, with hops that they take."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

CHANNELS = 2
LONGEST_HOP = 40


@dataclass(frozen=True)
class StreamNetwork:
    """A network of `stream_networks`, and how it is streamed.

    Attributes:
        arguments: Of the factory.
        stride: Steps of the signal per step of the body.
        consumed: No fewer steps than kernels, crops and shifts cost together.
        hop: A multiple of the stride.
        streams: Signals in step.
        hops: How many hops each chunk has.
    """

    arguments: dict
    stride: int
    consumed: int
    hop: int
    streams: int
    hops: list[int]

    @property
    def length(self) -> int:
        """Longer than what a step depends on, and whole hops."""
        return self.hop * (-(-(self.consumed + 12) // self.hop) + 2)


class _Drawn:
    """Collects layers, how wide and coarse their signal is, and what they cost."""

    def __init__(self, draw, channels, stride, ahead, depth=0):
        self.draw, self.channels, self.stride = draw, channels, stride
        self.ahead, self.depth = ahead, depth
        self.layers, self.consumed = [], 0

    def add(self, kind, how, cost=0):
        self.layers.append([kind, how])
        self.consumed += self.stride * cost

    def conv(self, stride=1):
        draw = self.draw
        groups = draw(st.sampled_from([1, 1, self.channels]))
        width = groups * draw(st.integers(1, 2 if groups > 1 else 4))
        kernel, dilation = draw(st.integers(1, 4)), draw(st.sampled_from([1, 1, 2, 3, 5]))
        span, how = (kernel - 1) * dilation, {}
        kinds = ["left", "crop"] if self.depth else ["left", "crop", "none"]
        if self.ahead:
            kinds += ["none", "same", "behind", "crop in front", "anyhow"]
        kind = draw(st.sampled_from(kinds))
        if kind == "left":
            how = {"pads": [span, 0]}
        elif kind == "crop":
            how = {"own": span, "crops": [0, -(-span // stride)]}
        elif kind == "same":
            how = {"own": span // 2}
        elif kind == "behind":
            how = {"pads": [0, span]}
        elif kind == "crop in front":
            how = {"own": span, "crops": [span // stride, 0]}
        elif kind == "anyhow":
            few = st.integers(0, 4)
            how = {"own": draw(few), "pads": draw(st.tuples(few, few).map(list)),
                   "crops": draw(st.tuples(few, few).map(list))}  # fmt: skip
        how |= {"width": width, "kernel": kernel, "dilation": dilation, "stride": stride,
                "groups": groups}  # fmt: skip
        self.add("conv", how, span + stride * sum(how.get("crops", ())))
        self.channels, self.stride = width, self.stride * stride

    def pool(self, stride=1):
        draw, kind = self.draw, self.draw(st.sampled_from(["max", "average"]))
        kernel = draw(st.integers(1, 4)) if self.ahead else stride
        how = {"kernel_size": kernel, "stride": stride}
        if self.ahead:
            how["padding"] = draw(st.integers(0, kernel // 2))
        self.add(kind, how, kernel)
        self.stride *= stride

    def shift(self):
        steps = self.draw(st.integers(-3 if self.ahead else 0, 5))
        self.add("shift", {"steps": steps, "is_padded": self.draw(st.booleans())}, abs(steps))

    def point(self):
        kind = self.draw(st.sampled_from(["norm", "act", "act", "per_step"]))
        if kind == "norm":
            self.add("norm", None)
        elif kind == "act":
            names = ["relu", "tanh", "sigmoid", "gelu"]
            self.add("act", self.draw(st.sampled_from(names)))
        else:
            width = self.draw(st.integers(1, 4))
            self.add("per_step", {"width": width, "norm": self.draw(st.booleans())})
            self.channels = width

    def branches(self, stride):
        draw, join = self.draw, self.draw(st.sampled_from(["add", "cat"]))
        align = draw(st.sampled_from(["front", "end"])) if self.ahead else "front"
        sides = [self.branch(stride) for _ in range(2)]
        if join == "add":
            width = draw(st.integers(1, 3))
            for side in sides:
                side.add("conv", {"width": width, "kernel": 1})
            self.channels = width
        else:
            self.channels = sum(side.channels for side in sides)
        one, other = (side.layers for side in sides)
        self.layers.append([
            "branches",
            {"one": one, "other": other, "join": join, "align": align},
        ])
        # Aligned at the end, the shorter one costs the other as many steps again.
        self.consumed += 2 * sum(side.consumed for side in sides)
        self.stride *= stride

    def branch(self, stride):
        side = _Drawn(self.draw, self.channels, self.stride, self.ahead, self.depth + 1)
        if stride > 1:
            self.draw(st.sampled_from([side.conv, side.pool]))(stride)
        for _ in range(self.draw(st.integers(0, 2))):
            side.layer()
        return side

    def layer(self, stride=1):
        kinds = [self.conv, self.pool] if stride > 1 else [self.conv, self.conv, self.pool]
        if self.depth < 1:
            kinds += [self.branches]
        if stride == 1:
            self.draw(st.sampled_from([*kinds, self._shift, self._point]))(1)
        else:
            self.draw(st.sampled_from(kinds))(stride)

    def _shift(self, _):
        self.shift()

    def _point(self, _):
        self.point()


@st.composite
def stream_networks(draw, head="every", ahead=None):
    """Networks with a head, that look ahead, or may, or do not."""
    ahead = draw(st.booleans()) if ahead is None else ahead
    body = _Drawn(draw, CHANNELS, 1, ahead)
    for stride in draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 3]), min_size=1, max_size=5)):
        body.layer(stride if body.stride * stride <= 12 else 1)
    arguments = {
        "seed": draw(st.integers(0, 99)), "channels": CHANNELS,
        "outputs": draw(st.integers(1, 3)), "body": body.layers, "head": head,
    }  # fmt: skip
    most = LONGEST_HOP // body.stride
    hop = body.stride * draw(st.integers(1, 3) | st.integers(1, most))
    hops = draw(st.lists(st.integers(1, 7), min_size=1, max_size=8))
    return StreamNetwork(
        arguments, body.stride, body.consumed, hop, draw(st.integers(1, 3)), hops
    )
