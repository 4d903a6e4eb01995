"""The race gives the true times and ratios on machines that do their best to mislead it."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcn_export import racing
from tcn_export.racing import Timing, cycle, race, ratio


class Machine:
    """A clock that stands still but for the contestants, and what disturbs their calls."""

    def __init__(self, disturb=lambda machine, name: 1.0):
        self.now = 0.0
        self.calls = 0
        self.disturb = disturb
        self.block = []  # names of the contestants whose turn it was, the present one last

    def clock(self):
        return self.now

    def contestant(self, name, seconds):
        def call():
            self.now += seconds * self.disturb(self, name)
            self.calls += 1

        return call

    def race(self, costs, **options):
        contestants = {name: self.contestant(name, cost) for name, cost in costs.items()}
        return race(contestants, clock=self.clock, before=self.block.append, **options)


def test_times_are_those_of_the_calls_that_count():
    machine = Machine()
    timings = machine.race({"a": 0.002, "b": 0.003}, rounds=7, calls=5, warm_up=2)
    assert {name: t.seconds.shape for name, t in timings.items()} == dict.fromkeys(
        "ab", (7, 5)
    )
    assert machine.calls == 2 * 7 * (5 + 2)
    assert timings["a"].median == pytest.approx(0.002)
    assert timings["b"].latency(threads=3).to_json() == {
        "median_us": 3000.0, "p90_us": 3000.0, "p99_us": 3000.0, "calls": 35, "threads": 3,
    }  # fmt: skip
    compared = ratio(timings["b"], timings["a"])
    assert compared.to_json() == {"median": 1.5, "p10": 1.5, "p90": 1.5, "rounds": 7}


def test_first_calls_after_another_contestant_do_not_count():
    def cold(machine, name):
        here = (len(machine.block), name)
        machine.served = machine.served + 1 if machine.here == here else 1
        machine.here = here
        return 4.0 if machine.served <= 2 else 1.0

    machine = Machine(cold)
    machine.here, machine.served = None, 0
    timings = machine.race({"a": 0.002, "b": 0.003}, rounds=6, calls=3, warm_up=2)
    assert timings["a"].seconds == pytest.approx(np.full((6, 3), 0.002))
    assert timings["b"].seconds == pytest.approx(np.full((6, 3), 0.003))


@pytest.mark.parametrize("slowed", [1.5, 0.7])
def test_who_disturbs_whoever_comes_next_favours_nobody(slowed):
    """In turns of one fixed order the same one would always bear it."""

    def behind(machine, name):
        return slowed if machine.block[-2:-1] == ["rude"] else 1.0

    costs = {"rude": 0.001, "one": 0.002, "other": 0.002}
    for names in itertools.permutations(costs):
        timings = Machine(behind).race(
            {name: costs[name] for name in names}, rounds=cycle(3), calls=4
        )
        assert timings["one"].median == pytest.approx(0.002)
        assert timings["other"].median == pytest.approx(0.002)
        assert timings["one"].seconds.sum() == pytest.approx(timings["other"].seconds.sum())


def test_drift_over_the_rounds_cancels_in_the_ratio():
    def slower_and_slower(machine, name):
        return 1.0 + machine.now / 2

    rounds = 40
    costs = {"slow": 0.003, "fast": 0.002}
    timings = Machine(slower_and_slower).race(costs, rounds=rounds, calls=10)
    last = timings["fast"].round_medians
    assert last[-1] > 2 * last[0], "the machine did become slower"
    compared = ratio(timings["slow"], timings["fast"])
    assert compared.median == pytest.approx(1.5, rel=0.005)
    # What stands first in a round is faster by the drift within it, in turns.
    assert compared.p10 < 1.5 < compared.p90
    assert compared.p90 - compared.p10 < 0.1

    machine = Machine(
        slower_and_slower
    )  # one after the other: what a race has to be better than
    alone = {
        name: machine.race({name: cost}, rounds=rounds, calls=10)[name].median
        for name, cost in costs.items()
    }
    assert not 1.3 < alone["slow"] / alone["fast"] < 1.7


def test_load_that_comes_and_goes_cancels_in_the_ratio():
    def busy(machine, name):
        return 1.0 if (len(machine.block) - 1) // 2 % 5 < 2 else 3.0

    timings = Machine(busy).race({"a": 0.003, "b": 0.002}, rounds=30, calls=5)
    compared = ratio(timings["a"], timings["b"])
    assert (compared.p10, compared.median, compared.p90) == pytest.approx((1.5, 1.5, 1.5))
    assert timings["a"].median == pytest.approx(0.009), "the median tells what most calls took"


def test_outliers_move_the_quantile_that_they_belong_to():
    def interrupted(machine, name):
        return 100.0 if machine.calls % 33 == 0 else 1.0

    timings = Machine(interrupted).race({"a": 0.003, "b": 0.002}, rounds=30, calls=20)
    latency = timings["a"].latency(1)
    assert (latency.median_us, latency.p90_us) == pytest.approx((3000, 3000))
    assert latency.p99_us == pytest.approx(300_000)
    compared = ratio(timings["a"], timings["b"])
    assert (compared.p10, compared.median, compared.p90) == pytest.approx((1.5, 1.5, 1.5))


def test_spread_of_a_ratio_is_that_of_its_rounds():
    one = Timing(np.linspace(1.0, 2.0, 11)[:, None] * np.ones((11, 3)))
    compared = ratio(one, Timing(np.ones((11, 3))))
    assert compared.to_json() == {"median": 1.5, "p10": 1.1, "p90": 1.9, "rounds": 11}


@given(st.integers(1, 9))
def test_everyone_stands_in_every_place_and_behind_every_other_equally_often(count):
    machine = Machine()
    rounds = cycle(count)
    machine.race({str(i): 0.001 for i in range(count)}, rounds=rounds, calls=1, warm_up=0)
    orders = np.array(machine.block, int).reshape(rounds, count)
    for column in orders.T:
        assert set(Counter(column.tolist()).values()) == {rounds // count}
    assert (np.sort(orders) == np.arange(count)).all()
    behind = Counter(pair for row in orders.tolist() for pair in itertools.pairwise(row))
    assert len(behind) == count * (count - 1)
    assert len(set(behind.values())) <= 1
    if count % 2 or count == 2:  # whoever ended a round begins the next, and so on for ever
        assert (orders[1:, 0] == orders[:-1, -1]).all()
        assert orders[0, 0] == orders[-1, -1]


@pytest.mark.parametrize(
    ("slowest", "calls"),
    [(0.0, 20), (1e-5, 20), (0.0101, 19), (0.05, 4), (3.0, 3)],
)
def test_slow_contestants_get_fewer_calls(slowest, calls):
    def first_call_is_slower(machine, name):
        return 50.0 if machine.calls < 2 else 1.0

    machine = Machine(first_call_is_slower)
    timings = machine.race({"fast": 0.0, "slow": slowest}, rounds=2)
    assert timings["slow"].seconds.shape == (2, calls)
    assert machine.calls == 4 + 2 * 2 * (calls + -(-calls // 4))


def test_rounds_are_told_as_they_end():
    told = []
    race({"a": lambda: None}, rounds=3, calls=1, advance=lambda: told.append(1))
    assert len(told) == 3


@pytest.mark.parametrize(
    "options", [{"rounds": 0}, {"calls": 0}, {"warm_up": -1}, {"contestants": {}}]
)
def test_races_without_a_call_are_a_bug_of_ours(options):
    with pytest.raises(ValueError, match=r"contestants, .* rounds of"):
        race(**{"contestants": {"a": lambda: None}, **options})


def test_real_clock_ranks_contestants_of_known_work():
    x = np.random.default_rng(0).standard_normal((48, 48)).astype(np.float32)

    def work(times):
        def call():
            for _ in range(times):
                x @ x

        return call

    # The slow one comes between: ranks must not follow the places.
    timings = race({"2": work(2 * 8), "3": work(3 * 8), "1": work(8)}, racing.ROUNDS)
    assert sorted(timings, key=lambda name: timings[name].median) == ["1", "2", "3"]
    assert 1.6 < ratio(timings["2"], timings["1"]).median < 2.4
    assert 2.4 < ratio(timings["3"], timings["1"]).median < 3.6
