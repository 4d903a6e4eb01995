"""What is watched is what the library watches, and nothing that is no number goes unseen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from architectures import ARCHITECTURES
from library_calibrator import library_ranges
from rewrite.onnx_text import parse
from support import NO_SHRINKING, TINY_LENGTH, make_source
from tcn_export.capture import capture
from tcn_export.errors import DataError
from tcn_export.graph import Graph, Signature, TensorSpec
from tcn_export.progress import Silent, ignore
from tcn_export.quantize.calibration import calibrate
from tcn_export.quantize.dialects import METHODS, ORT_X86_VNNI, TENSORRT
from tcn_export.quantize.watch import Watch
from tcn_export.rewrite.base import run_plan
from tcn_export.rewrite.plans import ONNX


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("watch")


@given(
    config=ARCHITECTURES,
    dialect=st.sampled_from([ORT_X86_VNNI, TENSORRT]),
    windows=st.integers(2, 20),
    seed=st.integers(0, 99),
)
@settings(max_examples=10, phases=NO_SHRINKING)
def test_extremes_of_any_network_are_those_of_the_library(
    config, dialect, windows, seed, folder
):
    source = make_source(folder / "m.pt", config, seed=seed)
    graph = run_plan(ONNX, capture(source, TINY_LENGTH, 20))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((windows, source.channels, TINY_LENGTH)).astype(np.float32)
    ours = Watch(graph, x, dialect.operators).extremes(ignore)
    # the same batch: not a bit of difference
    assert ours == library_ranges(graph, [x], dialect.operators, folder)


def graph_of(text, steps):
    spec = TensorSpec("x", "float32", ("batch", 2, steps), 2)
    return Graph(parse(text).model, Signature((spec,), ()))


LOGARITHM = """
    g (float[batch,2,33] x) => (float[batch,2,33] y) {
        h = Log (x)
        y = Relu (h)
    }"""


@given(place=st.integers(0, 2 * 33 - 1), window=st.integers(0, 4))
def test_a_value_that_is_no_number_is_found_wherever_it_stands(place, window):
    x = np.ones((5, 2, 33), np.float32)
    x[window].flat[place] = -1  # which has no logarithm
    graph = graph_of(LOGARITHM, 33)
    with pytest.raises(DataError, match=r"value `h` of the network to NaN"):
        calibrate(graph, x, "minmax", ORT_X86_VNNI, Silent())


def test_a_value_that_is_infinite_is_refused_by_name():
    x = np.ones((5, 2, 33), np.float32)
    x[4, 1, 7] = 0  # the logarithm of which is infinite
    with pytest.raises(DataError, match=r"value `h` of the network to -inf"):
        calibrate(graph_of(LOGARITHM, 33), x, "mse", ORT_X86_VNNI, Silent())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dialect", [ORT_X86_VNNI, TENSORRT], ids=["onnx", "trt"])
def test_ranges_have_zero_in_them_and_a_value_that_is_always_zero_has_none(method, dialect):
    graph = graph_of(
        """
        g (float[batch,2,9] x) => (float[batch,2,9] y) {
            n = Neg (x)
            dead = Relu (n)
            y = Add (x, dead)
        }""",
        9,
    )
    x = np.random.default_rng(0).uniform(1, 5, (40, 2, 9)).astype(np.float32)
    found = calibrate(graph, x, method, dialect, Silent()).by_name
    assert found["dead"] == (0, 0)
    low, high = found["x"]
    assert 0.9 * x.max() < high <= x.max() * (1 + 1e-6)
    assert low == (-high if dialect.symmetric and method != "minmax" else 0)
