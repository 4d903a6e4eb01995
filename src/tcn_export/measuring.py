"""What a network depends on, from its graph and from its own answers: the two must agree."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tcn_export.graph import Graph
from tcn_export.parity.feeds import SignalScale, noise_windows
from tcn_export.targets import load_target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tcn_export.data import Array
    from tcn_export.source.base import Source
    from tcn_export.timeline.batching import Run
    from tcn_export.timeline.dependence import Dependence


def measure_dependence(source: Source, captured: Graph, seed: int = 0) -> Dependence:
    """Find out what the outputs depend on, and measure it.

    Args:
        source: Holds the eager model.
        captured: Its graph, before any rewrite. With a symbolic length it is captured again
            for windows as the network was trained on.
        seed: Of the signals.

    Raises:
        UnsupportedModelError: The answer for one window depends on others in its batch, or
            the graph is not what the network computes.
        DisagreementError: The eager model depends on a step that its graph does not.
    """
    from tcn_export.capture import capture
    from tcn_export.parity.oracle import Oracle, one_thread
    from tcn_export.timeline.dependence import find_dependence
    from tcn_export.timeline.perturbing import SIZES, perturb

    spec = captured.signature.inputs[0]
    axis = spec.time_axis
    assert axis is not None
    is_dynamic = not isinstance(spec.shape[axis], int)
    if is_dynamic:
        opset = captured.model.opset_imports[""]
        captured = capture(source, source.length, opset)
    found, timeline = find_dependence(captured)
    oracle = Oracle(source.module, source.signature, bool(source.only_single))

    def run(windows: NDArray[np.float32]) -> dict[str, Array]:
        (reference,) = oracle.batches(spec.name, windows, both=False)
        return dict(reference.float64)

    scale = SignalScale(source.center, source.spread)
    windows = noise_windows(scale, found.window, len(SIZES), seed)
    with one_thread():
        measured = perturb(
            captured.model,
            timeline,
            np.moveaxis(windows, 2, axis),
            np.moveaxis(source.spread[:, None], 1, axis - 1),
            run,
            lambda: _runner(captured),
            seed,
        )
    if found.refusals:  # nobody knows which steps the answers stand for
        measured = replace(measured, lookback=None, lookahead=None)
    return replace(found, measured=measured, is_dynamic=is_dynamic)


def _runner(captured: Graph) -> Run:
    """What answers as a captured graph does."""
    target = load_target("onnx")
    runner = target.runner(target.build(captured, "float32"), threads=1)
    (spec,) = captured.signature.inputs
    return lambda windows: runner.run({spec.name: windows})
