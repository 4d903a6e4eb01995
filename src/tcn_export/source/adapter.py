"""What stands between our windows and a network of other habits.

Everything here feeds (batch, channels, steps) and reads tensors, the answer first. A network
that takes (batch, steps, channels), or answers with a dictionary or a tuple, is wrapped; it
stays as it is inside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

PREFIX = "network."
"""In front of the names of everything inside an `Adapter`."""


def leaves(answer: object, path: str = "") -> Iterator[tuple[str, object]]:
    """What a network answers, piece by piece, each with its path; None is left out.

    >>> list(leaves({"logits": 1, "hidden": (2, None, 3)}))
    [('logits', 1), ('hidden.0', 2), ('hidden.2', 3)]
    """
    inner: list[tuple[str, object]] | None = None
    if isinstance(answer, Mapping):
        inner = [(str(key), value) for key, value in answer.items()]
    elif isinstance(answer, tuple) and hasattr(answer, "_fields"):
        inner = list(zip(answer._fields, answer, strict=True))
    elif isinstance(answer, tuple | list):
        inner = [(str(i), value) for i, value in enumerate(answer)]
    elif dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        inner = [(f.name, getattr(answer, f.name)) for f in dataclasses.fields(answer)]
    if inner is not None:
        for key, value in inner:
            yield from leaves(value, f"{path}.{key}" if path else key)
    elif answer is not None:
        yield path, answer


class Adapter(nn.Module):
    """Feeds a network in its own layout, and gives its answers in ours.

    Args:
        network: The user's network.
        is_nlc: It takes (batch, steps, channels).
        order: Which of its `leaves` are given, in this order.
        turned: Of each of these, whether it is (batch, steps, outputs).
    """

    def __init__(
        self,
        network: nn.Module,
        is_nlc: bool,
        order: tuple[int, ...],
        turned: tuple[bool, ...],
    ) -> None:
        super().__init__()
        self.network = network
        self.is_nlc = is_nlc
        self.order = order
        self.turned = turned
        self.train(network.training)

    def forward(self, signal: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Take (batch, channels, steps); give one tensor, or several as a tuple."""
        if self.is_nlc:
            signal = signal.transpose(1, 2).contiguous()
        found = [value for _, value in leaves(self.network(signal))]
        values = [found[i] for i in self.order]
        answers = tuple(
            value.transpose(1, 2) if turned else value  # type: ignore[attr-defined]
            for value, turned in zip(values, self.turned, strict=True)
        )
        return answers if len(answers) > 1 else answers[0]  # type: ignore[return-value]
