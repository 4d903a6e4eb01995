from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tcn_export.fewest import MOST_LOOKS, bisect_fewest, looks_for, thinned, worth_a_look

CANDIDATES = st.lists(st.integers(0, 40), min_size=1, max_size=30, unique=True).map(sorted)


@given(candidates=CANDIDATES, looks=st.integers(1, 6), enough=st.integers(0, 50))
def test_so_many_looks_search_to_the_end(candidates, looks, enough):
    few = thinned(candidates, looks)
    asked = []

    def passes(number):
        asked.append(number)
        return number >= enough

    found = bisect_fewest(passes, few, looks)
    assert len(asked) <= looks
    assert found == next((number for number in few if number >= enough), None)
    assert few[-1] == candidates[-1]  # what passes if any does is never left out
    if found is None:
        assert candidates[-1] in asked


@given(noise=st.lists(st.floats(-10, 80), min_size=1, max_size=40), failed=st.floats(-10, 40))
def test_candidates_differ_by_half_the_noise_and_three_looks_find_one(noise, failed):
    found = worth_a_look(failed, noise)
    assert found == sorted(set(found))
    assert found[-1] == len(noise) - 1
    assert math.ceil(math.log2(len(found) + 1)) <= MOST_LOOKS
    gains = [noise[number] for number in found[:-1]]
    assert all(b >= a + 3 for a, b in zip([failed, *gains], gains, strict=False))


def test_looks_are_no_more_than_leave_each_a_chance():
    assert looks_for(7, lambda alpha: alpha >= 0.05 / 2) == 2
    assert looks_for(1, lambda alpha: True) == 1
    assert looks_for(7, lambda alpha: False) == 1
