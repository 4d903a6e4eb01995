"""Each tolerance class has to reject what it exists to reject."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from support import TINY_LENGTH, eager_double, make_source
from tcn_export.graph import Signature, TensorSpec
from tcn_export.models.tcn import TCNConfig
from tcn_export.parity import tolerance
from tcn_export.parity.feeds import Feed
from tcn_export.parity.gate import Gate, ParityReport
from tcn_export.parity.golden import Reference
from tcn_export.parity.metrics import sqnr_db

EVERY = TCNConfig(
    in_channels=3, outputs=4, widths=(8, 12), dilations=(1, 2), head="every", convolutions=2
)
SIGNATURE = Signature((), (TensorSpec("logits", "float32", ("batch", 4, TINY_LENGTH), 2),))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Eager outputs in both precisions, and those of the network with one weight changed."""
    source = make_source(tmp_path_factory.mktemp("tolerance") / "model.pt", EVERY)
    x = np.random.default_rng(0).standard_normal((64, 3, TINY_LENGTH)).astype(np.float32)
    feed = Feed("real", "real", {"signal": x})
    with torch.inference_mode():
        single = source.module(torch.from_numpy(x)).numpy()
    reference = Reference({"logits": eager_double(source, x)}, {"logits": single})
    weight = source.module.blocks[0].body.conv1.weight
    largest = weight.abs().argmax()
    weight.view(-1)[largest] *= 1.01
    with torch.inference_mode():
        slightly = source.module(torch.from_numpy(x)).numpy()
    weight.view(-1)[largest] *= -1
    with torch.inference_mode():
        grossly = source.module(torch.from_numpy(x)).numpy()
    return feed, reference, {"slightly": slightly, "grossly": grossly}


def verdict(precision, outputs, actual):
    """The verdict of the class: for int8 that of real windows without labels."""
    feed, reference, _ = outputs
    gate = Gate(precision, SIGNATURE, is_classification=True)
    rows = gate.judge(feed, {"logits": actual}, reference)
    if precision == "int8" and all(row.status != "fail" for row in rows):
        truth = reference.float64["logits"]
        agreed = float((actual.argmax(1) == truth.argmax(1)).mean())
        rows += gate.judge_unlabelled(
            "real", "logits", sqnr_db(actual, truth), agreed, len(truth)
        )
    return ParityReport(tuple(rows)).verdict


FAULTS = {
    "zeros": np.zeros_like,
    "a factor of two": lambda y: 2 * y,
    "a shift by one step": lambda y: np.roll(y, 1, axis=2),
    "swapped channels": lambda y: y[:, [1, 0, 2, 3]],
    "one NaN": lambda y: np.where(np.arange(y.size).reshape(y.shape) == 7, np.nan, y),
    "one infinity": lambda y: np.where(np.arange(y.size).reshape(y.shape) == 7, np.inf, y),
    "another dtype": lambda y: y.astype(np.float64),
    "another shape": lambda y: y[:, :, :-1],
    "a lost window": lambda y: y[:-1],
    "windows in another order": lambda y: y[::-1],
    "one window for all": lambda y: np.broadcast_to(y[:1], y.shape).copy(),
    "an offset": lambda y: y + np.abs(y).max(),
}


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_eager_outputs_themselves_pass(precision, outputs):
    assert verdict(precision, outputs, outputs[1].float32["logits"]) == "pass"


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("fault", FAULTS)
def test_class_rejects(precision, fault, outputs):
    actual = FAULTS[fault](outputs[1].float32["logits"])
    if fault not in ("another dtype",):
        actual = actual.astype(np.float32)
    assert verdict(precision, outputs, actual) == "fail"


@pytest.mark.parametrize(
    ("precision", "change"), [("float32", "slightly"), ("int8", "grossly")]
)
def test_class_rejects_one_changed_weight(precision, change, outputs):
    assert verdict(precision, outputs, outputs[2][change]) == "fail"


def test_float32_limit_follows_the_eager_error_and_the_size_of_the_output():
    epsilon = float(np.finfo(np.float32).eps)
    assert tolerance.float32_limit(eager_error=1e-3, largest=1.0) == 8e-3
    assert tolerance.float32_limit(eager_error=0.0, largest=100.0) == 1600 * epsilon
    assert tolerance.float32_limit(eager_error=0.0, largest=0.0) == 0.0


@pytest.mark.parametrize(("scale", "passes"), [(0.9, True), (1.1, False)])
def test_float32_limit_is_where_the_design_puts_it(outputs, scale, passes):
    feed, reference, _ = outputs
    truth = reference.float64["logits"]
    eager = np.abs(reference.float32["logits"] - truth).max()
    limit = max(8 * eager, 16 * np.finfo(np.float32).eps * np.abs(truth).max())
    actual = truth.copy()
    actual.flat[np.abs(truth).argmin()] += scale * limit
    # judged in double, so that the rounding of a float32 output does not blur the border
    gate = Gate("float32", SIGNATURE, is_classification=True)
    rows = gate._values(feed, "logits", actual, truth, reference.float32["logits"])
    assert (rows[0].status == "pass") is passes
