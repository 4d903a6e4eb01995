"""What single precision errs is chance; the oracle draws it more than once."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from tcn_export.graph import Signature, TensorSpec
from tcn_export.parity import oracle
from tcn_export.parity.oracle import Oracle

SIGNATURE = Signature(
    (TensorSpec("signal", "float32", ("batch", 64)),),
    (TensorSpec("logits", "float32", ("batch", 1)),),
)
FEED = {"signal": np.ones((1, 64), np.float32)}
EPSILON = float(np.finfo(np.float32).eps)


def cancelling(largest: float = 3.0) -> nn.Linear:
    """A sum that is exactly 0, and that float32 happens to compute exactly."""
    layer = nn.Linear(64, 1).eval().requires_grad_(False)
    layer.weight.copy_(torch.tensor([largest, -largest]).repeat(32))
    layer.bias.zero_()
    return layer


def test_an_error_that_is_small_by_luck_is_not_taken_for_the_error():
    reference = Oracle(cancelling(), SIGNATURE).run(FEED)
    assert reference.float32["logits"] == reference.float64["logits"] == 0
    # 64 weights of 3, each rounded: uniform errors of half an epsilon at most
    rounded = 3 * EPSILON / 2 * np.sqrt(64 / 3)
    assert rounded / 3 < reference.eager_error("logits") < 3 * rounded


def test_the_drawn_error_is_that_of_roundings_and_follows_their_size():
    errors = [
        Oracle(cancelling(largest), SIGNATURE).run(FEED).eager_error("logits")
        for largest in (3.0, 3000.0)
    ]
    assert errors[1] == pytest.approx(1000 * errors[0], rel=0.5)


def test_the_error_is_drawn_the_same_every_time():
    one, other = (Oracle(cancelling(), SIGNATURE).run(FEED) for _ in range(2))
    assert one.eager_error("logits") == other.eager_error("logits") > 0


@pytest.mark.parametrize("wrap", [lambda layer: layer, weight_norm])
def test_the_users_module_stays_as_it_is(wrap):
    module = nn.Sequential(wrap(cancelling()), nn.BatchNorm1d(1)).eval()
    before = copy.deepcopy(module.state_dict())
    Oracle(module, SIGNATURE).run(FEED)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_buffers_that_share_memory_are_no_obstacle():
    module = cancelling()
    module.register_buffer("mask", torch.ones(1).expand(5))
    assert Oracle(module, SIGNATURE).run(FEED).eager_error("logits") > 0


def test_copies_are_made_only_where_single_precision_is_asked_for(monkeypatch):
    def refuse(*_):
        raise AssertionError("a copy of the whole module")

    monkeypatch.setattr(oracle, "_neighbour", refuse)
    eager = Oracle(cancelling(), SIGNATURE)
    (reference,) = eager.batches("signal", FEED["signal"], both=False)
    assert reference.float64["logits"] == 0
    with pytest.raises(AssertionError, match="a copy of the whole module"):
        eager.run(FEED)
