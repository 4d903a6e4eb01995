"""A mean over a long stream keeps the digits of every step."""

from __future__ import annotations

import numpy as np

from streams import plan

STEPS = 60_000
NETWORK = {
    "seed": 3,
    "channels": 2,
    "outputs": 3,
    "body": [["conv", {"width": 4, "kernel": 3, "pads": [2, 0]}]],
    "head": "mean",
}


def test_a_running_mean_adds_whole_samples_after_many_steps():
    made = plan("stream_networks:network", NETWORK, 2, 16, 1, 0)
    # A sensor at rest: every step is rounded alike, and a plain sum drifts to one side.
    x = np.full((1, 2, STEPS), 0.3, np.float32)
    session = made.session()
    (name,) = (spec.name for spec in session.signature.outputs)
    for step in range(STEPS):
        answer = session.step(x[:, :, step : step + 1])[name]
    error = np.abs(answer - made.eager(x)).max()
    assert error <= made.limit(x)
