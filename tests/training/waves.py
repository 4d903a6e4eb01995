"""A small problem that a small network learns in seconds, and how to train on it."""

from __future__ import annotations

import numpy as np

from tcn_export.data import Dataset, Windows
from tcn_export.progress import Silent
from tcn_export.training.configure import NetworkOptions
from tcn_export.training.fit import FitOptions
from tcn_export.training.run import train

SMALL = NetworkOptions(widths=(8,), levels=2)
FAST = FitOptions(epochs=3, batch=16, patience=5)


def waves(windows=96, seed=0):
    """Two classes that differ in frequency, far from zero and in odd units."""
    rng = np.random.default_rng(seed)
    y = np.arange(windows) % 2
    t = np.arange(32)
    phase = rng.uniform(0, 6, (windows, 1, 1))
    x = np.sin(phase + t * (0.3 + 0.5 * y[:, None, None])) * [[[3.0]], [[100.0]]][0] + 50
    return Windows(np.concatenate([x, 2 * x], axis=1).astype(np.float32), y.astype(np.int64))


def slow_and_fast():
    return Dataset("waves", waves(), waves(40, seed=1), ("slow", "fast"))


def fit(dataset, path, network=SMALL, options=FAST, validation=0.25, progress=None):
    return train(
        dataset, network, options, validation, path, True, progress or Silent(), lambda _: None
    )
