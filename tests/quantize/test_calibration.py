"""Calibration as a whole: the library's own ranges, any split of windows, a cache."""

from __future__ import annotations

import json
from contextlib import nullcontext

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from library_calibrator import library_ranges
from rewrite.onnx_text import parse
from support import NO_SHRINKING, TINY_LENGTH, make_source
from tcn_export.capture import capture
from tcn_export.errors import DataError
from tcn_export.graph import Signature, TensorSpec
from tcn_export.models.tcn import TCNConfig
from tcn_export.progress import Silent
from tcn_export.quantize.cache import Cache
from tcn_export.quantize.calibration import calibrate
from tcn_export.quantize.dialects import METHODS, ORT_X86_VNNI
from tcn_export.quantize.watch import Watch
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.plans import ONNX

OPERATORS = ORT_X86_VNNI.operators


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    config = TCNConfig(in_channels=3, outputs=4, widths=(8, 8), dilations=(1, 2))
    source = make_source(tmp_path_factory.mktemp("calibration") / "m.pt", config)
    return run_plan(ONNX, capture(source, TINY_LENGTH, 20))


def draw(count, seed=0):
    noise = np.random.default_rng(seed).standard_normal((count, 3, TINY_LENGTH))
    return (3 * noise + 0.5).astype(np.float32)


def small(graph, windows, budget):
    return Watch(graph, windows, OPERATORS, budget)


def ignore(units=1):
    pass


@pytest.fixture(scope="module")
def random_networks(tmp_path_factory):
    return tmp_path_factory.mktemp("random")


@given(
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    head=st.sampled_from(["last", "mean", "every"]),
    convolutions=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
@settings(max_examples=6, phases=NO_SHRINKING)
def test_minmax_is_that_of_the_library(widths, head, convolutions, seed, random_networks):
    config = TCNConfig(
        in_channels=3,
        outputs=4,
        widths=tuple(widths),
        dilations=tuple(2**i for i in range(len(widths))),
        convolutions=convolutions,
        head=head,
    )
    source = make_source(random_networks / "m.pt", config, seed=seed)
    graph = run_plan(ONNX, capture(source, TINY_LENGTH, 20))
    windows = draw(21, seed)
    ours = calibrate(graph, windows, "minmax", ORT_X86_VNNI, Silent()).by_name
    theirs = library_ranges(graph, [windows[:5], windows[5:]], OPERATORS, random_networks)
    assert set(ours) == set(theirs)
    for name, (low, high) in theirs.items():
        # kernels may add in another order where the batch is another one
        wanted = pytest.approx((min(low, 0), max(high, 0)), rel=1e-5, abs=1e-6)
        assert ours[name] == wanted, name


def test_a_budget_of_any_size_finds_the_same(graph):
    windows = draw(33)
    whole = Watch(graph, windows, OPERATORS)
    assert len(whole.groups) == 1
    limits = whole.extremes(ignore)
    counted = whole.histograms(limits, ignore)
    for budget in (1, 3000, 40_000):
        parts = small(graph, windows, budget)
        found = parts.extremes(ignore)
        for name, pair in limits.items():
            assert found[name] == pytest.approx(pair, rel=1e-5, abs=1e-6)
        again = parts.histograms(limits, ignore)
        for name, histogram in counted.items():
            total = histogram.counts.sum() + histogram.zeros
            assert again[name].counts.sum() + again[name].zeros == total
            # one rounding may carry a number over an edge
            moved = np.abs(again[name].counts - histogram.counts).sum()
            assert moved <= 0.001 * total


def test_a_small_budget_divides_values_and_windows(graph):
    windows = draw(33)
    told = []
    parts = small(graph, windows, 1)
    assert [len(group) for group in parts.groups] == [1] * len(parts.names)
    parts.extremes(told.append)
    assert told == [1] * 33


def test_no_run_holds_more_than_the_budget(graph, monkeypatch):
    windows, budget = draw(64), 30_000
    held = []
    from tcn_export.quantize import watch as module

    made = module._session

    class Session:
        def __init__(self, model):
            self.inner = made(model)

        def run(self, *arguments):
            values = self.inner.run(*arguments)
            held.append(sum(value.nbytes for value in values))
            return values

    monkeypatch.setattr(module, "_session", Session)
    watch = small(graph, windows, budget)
    watch.histograms(watch.extremes(ignore), ignore)
    assert budget / 4 < max(held) <= budget


def test_infinite_values_are_refused_by_name(graph):
    with pytest.raises(DataError, match=r"drive the value `.+` of the network to"):
        calibrate(
            graph, np.clip(draw(4), -3, 3) * np.float32(1e38), "minmax", ORT_X86_VNNI, Silent()
        )


def test_constants_are_not_calibrated_and_zero_is_in_every_range():
    graph = parse("""
        g (float[batch,3,4] x) => (float[batch,3,4] y)
        <float[1] c = {7.0}> {
            e = Exp (x)
            h = Add (e, c)
            y = Relu (h)
        }""")
    spec = TensorSpec("x", "float32", ("batch", 3, 4), 2)
    graph = type(graph)(graph.model, Signature((spec,), ()))
    x = np.zeros((2, 3, 4), np.float32)
    for method in METHODS:
        ranges = calibrate(graph, x, method, ORT_X86_VNNI, Silent()).by_name
        assert set(ranges) == {"e", "h", "y"}
        assert ranges["y"][0] == 0
        assert ranges["y"][1] == pytest.approx(8, rel=0.01)


class Counter(Silent):
    """Notes the stages, and so whether anything was computed."""

    def __init__(self):
        self.calls = []

    def stage(self, title, total=None):
        return nullcontext(lambda units=1: self.calls.append((title, units)))

    def runs(self, title):
        return sum(called.startswith(title) for called, _ in self.calls)


def measured(graph, windows, method, cache):
    progress = Counter()
    ranges = calibrate(graph, windows, method, ORT_X86_VNNI, progress, cache)
    return ranges, progress


def test_what_was_measured_serves_every_method(graph, tmp_path, monkeypatch):
    cache = Cache(tmp_path / "cache")
    windows = draw(40)
    fresh = {m: calibrate(graph, windows, m, ORT_X86_VNNI, Silent()) for m in METHODS}
    assert measured(graph, windows, "mse", cache)[0] == fresh["mse"]
    kept = sorted(path.name.split("-")[1] for path in cache.folder.iterdir())
    assert kept == ["extremes.json", "histograms.json"]

    def forbidden(*_):
        raise AssertionError("it was measured again")

    monkeypatch.setattr(Watch, "extremes", forbidden)
    monkeypatch.setattr(Watch, "histograms", forbidden)
    for method in METHODS:
        ranges, progress = measured(graph, windows, method, cache)
        assert ranges == fresh[method]
        assert sum(u for title, u in progress.calls if title.startswith("Calibrating")) == 40


def test_other_windows_and_other_weights_are_measured_anew(graph, tmp_path):
    cache = Cache(tmp_path)
    measured(graph, draw(8), "minmax", cache)
    measured(graph, draw(8, seed=1), "minmax", cache)
    measured(graph, draw(9), "minmax", cache)
    model = graph.model.clone()
    weight = next(v for v in model.graph.initializers.values() if len(v.shape) == 3)
    weight.const_value = ir.tensor(weight.const_value.numpy() * 2, name=weight.name)
    other = type(graph)(model, graph.signature)
    changed, _ = measured(other, draw(8), "minmax", cache)
    assert changed == calibrate(other, draw(8), "minmax", ORT_X86_VNNI, Silent())
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "[" * 100_000,
        lambda _: "\udcff",
        lambda _: "[]",
        lambda _: '{"foreign": [0, 1]}',
        lambda text: text.replace("[", '["a",'),
        lambda text: json.dumps({name: [5.0, -5.0] for name in json.loads(text)}),
        lambda text: json.dumps({name: [0.0] for name in json.loads(text)}),
        lambda text: json.dumps({
            name: {"zeros": 1, "counts": [1]} for name in json.loads(text)
        }),
        lambda text: json.dumps({
            name: {"zeros": -1, "counts": [0] * 2048} for name in json.loads(text)
        }),
        lambda text: json.dumps({
            name: {"zeros": 0, "counts": [2**70] * 2048} for name in json.loads(text)
        }),
    ],
)
def test_a_damaged_entry_is_measured_again_and_mended(damage, graph, tmp_path):
    cache, windows = Cache(tmp_path), draw(12)
    right, _ = measured(graph, windows, "percentile", cache)
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    for path, text in before.items():
        path.write_text(damage(text), errors="surrogateescape")
    assert measured(graph, windows, "percentile", cache)[0] == right
    assert {path: path.read_text() for path in tmp_path.iterdir()} == before


def test_a_cache_that_cannot_be_written_is_done_without(graph, tmp_path):
    (tmp_path / "file").touch()
    ranges, _ = measured(graph, draw(4), "mse", Cache(tmp_path / "file" / "cache"))
    assert ranges.windows == 4
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_environment_says_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("TCN_EXPORT_CACHE", str(tmp_path))
    assert Cache.of_user().folder == tmp_path / "calibration"
    for off in ("", "off"):
        monkeypatch.setenv("TCN_EXPORT_CACHE", off)
        assert Cache.of_user().folder is None
    monkeypatch.delenv("TCN_EXPORT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache.of_user().folder == tmp_path / "tcn-export" / "calibration"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Cache.of_user().folder == tmp_path / "home/.cache/tcn-export/calibration"
