"""Who is at fault, and what measuring costs."""

from __future__ import annotations

import pytest

from tcn_export.errors import UnsupportedModelError
from tcn_export.timeline.perturbing import _affordable
from timeline.test_dependence import odd


def test_an_exporter_that_wrote_another_network_is_told_from_a_fault_of_ours():
    with pytest.raises(UnsupportedModelError, match="PyTorch's exporter wrote something else"):
        odd("Exported")


@pytest.mark.parametrize(
    ("cost", "length"),
    [(1_000, 100), (90_310 * 512, 512), (430_000_000, 1024), (800_000_000, 1024)],
)
def test_measuring_keeps_to_its_budget(cost, length):
    windows, cases, rows = _affordable(cost, length)
    assert cost * (windows * (cases + rows + 1) + max(windows, 2)) <= 1e10
    assert cases >= min(4, length + 1)


def test_fewer_windows_are_tried_before_fewer_steps_and_four_steps_at_least():
    assert _affordable(150_000_000, 1024)[::2] == (3, 1)
    assert _affordable(250_000_000, 1024)[::2] == (2, 1)
    assert _affordable(430_000_000, 1024)[::2] == (1, 1)
    assert _affordable(20_000_000_000, 4096) == (1, 4, 1)
    assert _affordable(20_000_000_000, 2) == (1, 3, 1)


def test_long_windows_of_small_networks_are_sampled_too():
    assert _affordable(1_000, 256) == (3, 257, 32)
    assert _affordable(1_000, 100_000) == (3, 257, 32)
