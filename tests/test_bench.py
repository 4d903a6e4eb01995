from __future__ import annotations

from tcn_export import bench
from tcn_export.bench import measure_latency


class Counting:
    def __init__(self):
        self.calls = 0

    def run(self, feeds):
        self.calls += 1
        return feeds


def test_quantiles_are_in_order_and_warm_up_calls_are_not_counted():
    runner = Counting()
    latency = measure_latency(runner, {}, threads=3)
    assert (latency.calls, latency.threads) == (bench.MOST_CALLS, 3)
    assert runner.calls == bench.MOST_CALLS + bench.WARM_UP_CALLS
    assert 0 < latency.median_us <= latency.p90_us <= latency.p99_us
    assert set(latency.to_json()) == {"median_us", "p90_us", "p99_us", "calls", "threads"}


def test_slow_models_are_timed_by_the_clock(monkeypatch):
    monkeypatch.setattr(bench, "MOST_SECONDS", 0.0)
    assert measure_latency(Counting(), {}, threads=1).calls == 1
