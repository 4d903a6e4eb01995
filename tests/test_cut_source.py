"""A stream whose mean is not the network's own is judged by the captured graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from support import make_source
from tcn_export.cut_source import cut_source
from tcn_export.errors import UnsupportedModelError
from tcn_export.models.tcn import TCNConfig
from tcn_export.rewrite.cut_means import Cut

MEAN = TCNConfig(in_channels=2, outputs=3, widths=(4, 4), dilations=(1, 2), head="mean")


@pytest.fixture
def source(tmp_path):
    return make_source(tmp_path / "mean.pt", MEAN)


def name_of_mean(source):
    from tcn_export.capture import capture

    graph = capture(source, None, 20).model.graph
    (node,) = (node for node in graph if node.op_type == "ReduceMean")
    return node.name


def test_means_of_its_own_leave_the_network_as_it_is(source):
    assert cut_source(source, {}, 20, 0) is source


def test_the_last_steps_alone_count(source):
    cut = cut_source(source, {name_of_mean(source): Cut(2, 0, 5)}, 20, 0)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 2, 40))).double()
    kept = {}
    double = source.module.double()
    head = [m for m in double.modules() if isinstance(m, torch.nn.Linear)][-1]
    blocks = next(m for m in double.children() if isinstance(m, torch.nn.Sequential))
    blocks.register_forward_hook(lambda _, __, y: kept.update(features=y))
    with torch.inference_mode():
        double(x)
        wanted = head(kept["features"][:, :, -5:].mean(2))
        torch.testing.assert_close(cut.module.double()(x), wanted, rtol=1e-9, atol=1e-12)
    assert "judged by the captured graph" in cut.notes[-1]


def test_a_graph_that_is_not_the_network_cannot_stand_for_it(source, monkeypatch):
    import tcn_export.capture as room

    name, capture = name_of_mean(source), room.capture

    def capture_another(other, *arguments):  # as a capture that loses something would
        graph = capture(other, *arguments)
        with torch.no_grad():
            next(source.module.parameters()).mul_(1.001)
        return graph

    monkeypatch.setattr(room, "capture", capture_another)
    with pytest.raises(UnsupportedModelError, match="differs from it"):
        cut_source(source, {name: Cut(2, 0, 5)}, 20, 0)
