"""What an export keeps of every layer, in ``layers.npz``: no values, but their sketches."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tcn_export import structure
from tcn_export.archive import read_arrays
from tcn_export.data import Array
from tcn_export.errors import BundleError
from tcn_export.parity.sketch import Seen, look_at, pack, unpack
from tcn_export.structure import TEXT

LAYERS_FILE = "layers.npz"

_FORM = {
    "feed": TEXT,
    "kind": {"stress", "real", "noise"},
    "windows": int,
    "oracle": TEXT,
    "model": TEXT,
    "reference": [{"value": TEXT, "size": int}],
    "own": [
        {
            "layer": TEXT,
            "node": TEXT,
            "operator": TEXT,
            "value": TEXT,
            "size": int,
            "reads": [TEXT],
            "is_quantized": bool,
        }
    ],
}


class _Made(Protocol):
    """What `targets.units.Made` holds; a device has no ONNX package to import that with."""

    @property
    def layer(self) -> str: ...
    @property
    def node(self) -> str: ...
    @property
    def operator(self) -> str: ...
    @property
    def value(self) -> str: ...
    @property
    def reads(self) -> tuple[str, ...]: ...
    @property
    def is_quantized(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Layer:
    """One value of a graph that ran, and where it came from.

    ``layer`` is the path of the PyTorch module, or the node's name where none is known;
    ``reads`` are the values that its node reads; ``is_quantized`` says that it is handed on in
    integers.
    """

    layer: str
    node: str
    operator: str
    value: str
    reads: tuple[str, ...]
    is_quantized: bool
    seen: Seen


@dataclass(frozen=True, slots=True)
class Trace:
    """Every value of a graph, in its order, as one feed made it."""

    layers: dict[str, Layer] = field(default_factory=dict)

    def add(self, made: _Made, value: Array) -> None:
        """Note a value; of two under one name the last counts."""
        self.layers[made.value] = Layer(
            made.layer,
            made.node,
            made.operator,
            made.value,
            made.reads,
            made.is_quantized,
            look_at(value),
        )


@dataclass(frozen=True, slots=True)
class Recorded:
    """What an export keeps to locate a fault later.

    Attributes:
        feed: Name of the golden feed that was run.
        kind: Of that feed.
        windows: How many of its windows, from the first on.
        oracle: What the reference was computed in.
        model: SHA-256 of the model that ``own`` is of.
        reference: The final float32 graph in that precision, by value.
        float32_noise: Energy of what the same graph errs in float32, by value.
        own: The artifact's values.
    """

    feed: str
    kind: str
    windows: int
    oracle: str
    model: str
    reference: Mapping[str, Seen]
    float32_noise: Mapping[str, float]
    own: Trace


def layers_to_bytes(recorded: Recorded) -> bytes:
    """The content of ``layers.npz``: text as JSON, sketches in float32."""
    own = recorded.own.layers.values()
    header = {
        "feed": recorded.feed,
        "kind": recorded.kind,
        "windows": recorded.windows,
        "oracle": recorded.oracle,
        "model": recorded.model,
        "reference": [
            {"value": name, "size": seen.size} for name, seen in recorded.reference.items()
        ],
        "own": [
            {
                "layer": one.layer,
                "node": one.node,
                "operator": one.operator,
                "value": one.value,
                "size": one.seen.size,
                "reads": list(one.reads),
                "is_quantized": one.is_quantized,
            }
            for one in own
        ],
    }
    noise = [recorded.float32_noise[name] for name in recorded.reference]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        header=np.frombuffer(json.dumps(header).encode(), np.uint8),
        reference_energy=_energies(recorded.reference.values()),
        reference=pack(iter(recorded.reference.values())),
        float32_noise=np.array(noise, np.float64),
        own_energy=_energies(one.seen for one in own),
        own=pack(one.seen for one in own),
    )
    return buffer.getvalue()


def layers_from_bytes(raw: bytes) -> Recorded:
    """Read what `layers_to_bytes` wrote.

    Raises:
        BundleError: The file is damaged.
    """
    try:
        arrays = read_arrays(io.BytesIO(raw))
        header = json.loads(arrays["header"].tobytes())
        structure.check(header, _FORM, LAYERS_FILE)
        return _recorded(header, arrays)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{LAYERS_FILE} is damaged: {error}. Export the model again."
        ) from error


def _recorded(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> Recorded:
    names = [entry["value"] for entry in header["reference"]]
    sizes = [entry["size"] for entry in header["reference"]]
    seen = unpack(sizes, arrays["reference_energy"], arrays["reference"])
    noise = arrays["float32_noise"]
    if noise.shape != (len(names),) or noise.dtype != np.float64:
        raise ValueError("it lacks what float32 errs")
    energies = (arrays["reference_energy"], arrays["own_energy"])
    if not (noise >= 0).all() or any((e < 0).any() for e in energies):
        raise ValueError("energies or noise of its layers are negative, or no numbers")
    if header["windows"] < 1:
        raise ValueError(f"it holds {header['windows']} windows")
    own = unpack(
        [entry["size"] for entry in header["own"]], arrays["own_energy"], arrays["own"]
    )
    layers = {
        entry["value"]: Layer(
            entry["layer"],
            entry["node"],
            entry["operator"],
            entry["value"],
            tuple(entry["reads"]),
            entry["is_quantized"],
            one,
        )
        for entry, one in zip(header["own"], own, strict=True)
    }
    return Recorded(
        header["feed"],
        header["kind"],
        header["windows"],
        header["oracle"],
        header["model"],
        dict(zip(names, seen, strict=True)),
        dict(zip(names, map(float, noise), strict=True)),
        Trace(layers),
    )


def _energies(values: Iterable[Seen]) -> Array:
    return np.array([seen.energy for seen in values], np.float64)
