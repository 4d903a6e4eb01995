"""Ranges are those of the stream that runs on the device, whatever its hop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from architectures import tcns
from integer_streams import SILENT, odd_graph, ranges_of, stream_of, whole_graph
from odd_streams import CHANNELS
from support import NO_SHRINKING, make_source
from tcn_export.errors import DataError
from tcn_export.progress import ignore
from tcn_export.quantize.cache import Cache
from tcn_export.quantize.calibration import calibrate
from tcn_export.quantize.dialects import METHODS, ORT_X86_VNNI, TENSORRT
from tcn_export.quantize.feeding import Streams
from tcn_export.quantize.histogram import BINS
from tcn_export.quantize.stream_ranges import stays_float, tied
from tcn_export.quantize.watch import Watch

STEPS = 48
ROUNDING = 1e-5
"""Kernels sum in another order for another number of steps."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("streams")


def noise(channels, steps=STEPS, streams=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((streams, channels, steps)).astype(np.float32)


def test_ranges_are_those_of_the_stream_and_not_of_windows_from_nothing():
    graph = odd_graph("Remembers", 16, 1)
    signal = np.ones((1, 1, 160), np.float32)
    windows = signal.reshape(10, 1, 16)
    of_windows = calibrate(graph, windows, "minmax", ORT_X86_VNNI, SILENT).by_name["Relu"]
    of_stream = ranges_of(stream_of(graph, 4), signal, ORT_X86_VNNI).by_name["Relu"]
    assert of_windows == (0, 16)
    assert of_stream == (0, 64)


@given(
    config=tcns(),
    hop=st.sampled_from([1, 3, 8, 48]),
    dialect=st.sampled_from([ORT_X86_VNNI, TENSORRT]),
    seed=st.integers(0, 99),
)
@settings(max_examples=settings().max_examples // 5, phases=NO_SHRINKING)
def test_extremes_of_any_hop_are_those_of_the_whole_signal(config, hop, dialect, seed, folder):
    source = make_source(folder / "m.pt", config, seed=seed)
    graph = whole_graph(source, STEPS)
    x = noise(source.channels, seed=seed)
    mean = 0 if config.head == "mean" else None
    whole = calibrate(graph, x, "minmax", dialect, SILENT).by_name
    found = ranges_of(stream_of(graph, hop, mean), x, dialect).by_name
    shared = set(whole) & set(found)
    # What a last step alone is read from has more steps in a stream: all of them come last.
    for name in shared:
        low, high = whole[name]
        assert found[name][0] <= low + ROUNDING * (high - low)
        assert found[name][1] >= high - ROUNDING * (high - low)
        if config.head == "every":
            assert np.allclose(found[name], whole[name], rtol=ROUNDING, atol=ROUNDING)
    assert shared or not found


def test_few_bytes_at_a_time_measure_the_same():
    stream = stream_of(odd_graph("LooksAhead"), 4)
    x, without = noise(CHANNELS, streams=7), stays_float(stream)
    feeding = Streams(stream, x)
    plain = Watch(stream, feeding, ORT_X86_VNNI.operators, without=without)
    small = Watch(stream, feeding, ORT_X86_VNNI.operators, 600, without)
    assert len(small.groups) > 1
    limits = plain.extremes(ignore)
    assert small.extremes(ignore) == limits
    one, other = plain.histograms(limits, ignore), small.histograms(limits, ignore)
    assert all((one[n].counts == other[n].counts).all() for n in plain.names)


def test_steps_behind_the_last_whole_hop_do_not_count():
    stream, x = stream_of(odd_graph("Gated"), 16), noise(CHANNELS, 40)
    longer = x.copy()
    longer[:, :, 32:] = 1000
    assert ranges_of(stream, x, ORT_X86_VNNI) == ranges_of(stream, longer, ORT_X86_VNNI)


def test_signals_shorter_than_a_hop_are_refused():
    stream = stream_of(odd_graph("Gated"), 16)
    with pytest.raises(DataError, match=r"\(3, 3, 15\), but a hop takes 16 steps"):
        Streams(stream, noise(CHANNELS, 15))


def test_a_signal_that_is_no_number_late_is_found():
    stream, x = stream_of(odd_graph("Gated"), 4), noise(CHANNELS)
    x[1, 2, 44] = np.nan
    with pytest.raises(DataError, match="the calibration signals drive the value"):
        ranges_of(stream, x, ORT_X86_VNNI)


def test_a_pool_over_what_has_not_begun_needs_no_range_for_minus_infinity():
    stream = stream_of(odd_graph("Pooled"), 4)
    found = ranges_of(stream, noise(CHANNELS), ORT_X86_VNNI).by_name
    assert all(np.isfinite(limits).all() for limits in found.values())
    assert any("MaxPool" in name for name in stays_float(stream))


def test_one_value_has_one_range_wherever_it_is_moved():
    found = ranges_of(stream_of(odd_graph("LooksAhead"), 4), noise(CHANNELS), TENSORRT).by_name
    moved = [name for name in found if name == "Relu" or name.startswith("Relu/")]
    assert len(moved) > 3
    assert len({found[name] for name in moved}) == 1


@pytest.mark.parametrize("method", METHODS)
def test_no_method_depends_on_the_hop(method):
    graph, x = odd_graph("Gated"), noise(CHANNELS)
    short, long = (
        ranges_of(stream_of(graph, hop), x, ORT_X86_VNNI, method).by_name for hop in (2, 16)
    )
    for name in short.keys() & long.keys():
        step = (long[name][1] - long[name][0]) * 2 / BINS  # kernels round into other bins
        assert np.allclose(short[name], long[name], rtol=0, atol=step)


def test_sums_and_masks_stay_in_float32():
    named = stays_float(stream_of(odd_graph("Mean"), 4, mean=0))
    assert {"Relu/total", "Relu/term", "Relu/steps_seen"} <= named
    assert "started/with_past" in stays_float(stream_of(odd_graph("LooksAhead"), 4))


def test_a_stream_is_not_taken_for_windows_by_the_cache(tmp_path):
    graph, x = odd_graph("Gated"), noise(CHANNELS)
    cache, stream = Cache(tmp_path), stream_of(graph, STEPS)
    without = stays_float(stream)

    def measured(cache):
        feeding = Streams(stream, x)
        return calibrate(stream, feeding, "mse", ORT_X86_VNNI, SILENT, cache, without)

    of_windows = calibrate(graph, x, "mse", ORT_X86_VNNI, SILENT, cache)
    first = measured(cache)
    assert measured(cache) == first == measured(Cache(None))
    assert set(of_windows.by_name) != set(first.by_name)
    assert tied(first, stream).by_name.keys() >= of_windows.by_name.keys()
