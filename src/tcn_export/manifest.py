"""The manifest: what a bundle says about itself, and the form that it must have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tcn_export import structure
from tcn_export.graph import Signature, StatePair, TensorSpec
from tcn_export.parity.form import LATER, PARITY
from tcn_export.quantize.form import COVERAGE, QUANTIZATION
from tcn_export.signature_form import SPEC, STATE, check_signature
from tcn_export.structure import ANYTHING, NUMBER, TEXT, Each, Kind, Maybe
from tcn_export.targets.base import Mode, Precision

MANIFEST_FILE = "manifest.json"
# Schema history. 1: 2026-11-23, first; 2026-11-24 and 26, what `_LATER` names.
SCHEMA = 1

_MOST = 2**53


def _is_count(value: object, least: int = 1 - _MOST) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < _MOST


_STEPS = Kind(f"an int below {_MOST}", _is_count)
_SOME = Kind(f"a positive int below {_MOST}", lambda value: _is_count(value, 1))
_DEPENDENCE = {
    "window": _STEPS,
    "is_dynamic": bool,
    "needed": _STEPS,
    "lookback": (None, _STEPS),
    "stride": (None, _STEPS),
    "holes": (None, _STEPS),
    "reads": [{"output": TEXT, "how": TEXT, "gathers": Maybe(bool)}],
    "looks_ahead": [TEXT],
    "refusals": [TEXT],
    "warnings": [TEXT],
    "measured": (
        None,
        {
            "windows": _STEPS,
            "moved": _STEPS,
            "together": _STEPS,
            "silent": _STEPS,
            "followed": Maybe(_STEPS),
            "lookback": (None, _STEPS),
            "lookahead": (None, _STEPS),
        },
    ),
    "cone": (
        None,
        {
            "first": _STEPS,
            "per_column": _SOME,
            "left_out": _STEPS,
            "rows": [
                {
                    "layer": TEXT,
                    "taps": _STEPS,
                    "spacing": _STEPS,
                    "stride": _STEPS,
                    "needed": _STEPS,
                    "drawn": TEXT,
                }
            ],
        },
    ),
}
_LAYOUT = {
    "choice": TEXT,
    "measured_on": {"cpu": TEXT},
    "threads": int,
    "candidates": [
        {
            "name": TEXT,
            "file": TEXT,
            "median_us": NUMBER,
            "p90_us": NUMBER,
            "coverage": Maybe(COVERAGE),
        }
    ],
}
_STREAM = {
    "form": TEXT,
    "mean": (None, TEXT),
    "state_bytes": _STEPS,
    "unreached": _STEPS,
    "candidates": [{"form": TEXT, "median_us": (None, NUMBER), "reason": TEXT}],
}
_FORM = {
    "name": TEXT,
    "target": TEXT,
    "precision": TEXT,
    "mode": TEXT,
    "hop": (None, int),
    "model": TEXT,
    "settings": Each(ANYTHING),
    "task": {"classification", "regression"},
    "inputs": [SPEC],
    "outputs": [SPEC],
    "states": [STATE],
    "receptive_field": (None, _STEPS),
    "lookahead": (None, _STEPS),
    "causal": (None, bool),
    "dependence": (None, _DEPENDENCE),
    "sample_rate_hz": (None, NUMBER),
    "classes": [TEXT],
    "source": {"file": TEXT, "kind": TEXT, "sha256": TEXT, "notes": [TEXT]},
    "tools": Each(TEXT),
    "host": {"cpu": TEXT},
    "rewrites": [
        {
            "name": TEXT,
            "modified": int,
            "refusals": [{"node": TEXT, "reason": TEXT}],
            "seconds": NUMBER,
        }
    ],
    "quantization": (None, QUANTIZATION),
    "candidates": (
        None,
        [
            {
                "precision": TEXT,
                "in_float": [TEXT],
                "median_us": NUMBER,
                "verdict": PARITY["verdict"],
                "reason": TEXT,
                "chosen": bool,
            }
        ],
    ),
    "layout": (None, _LAYOUT),
    "stream": (None, _STREAM),
    "engine": (None, TEXT),
    "builder": (None, Each(ANYTHING)),
    "parity": PARITY,
    "latency": (
        None,
        {
            "median_us": NUMBER,
            "p90_us": NUMBER,
            "p99_us": NUMBER,
            "calls": int,
            "threads": int,
        },
    ),
    "verified": bool,
    "waived": [TEXT],
    "files": Each(TEXT),
}
_LATER: dict[str, Any] = {
    "settings": {}, "dependence": None, "layout": None, "engine": None, "builder": None,
    "candidates": None, "stream": None,
}  # fmt: skip
"""What older bundles lack, and what that means."""
_LATER_WITHIN: dict[str, Any] = {
    "source": {"notes": []}, "parity": LATER, "dependence": {"is_dynamic": False},
}  # fmt: skip
"""The same, of what is within these."""
_AS_THEY_ARE = _FORM.keys() - {
    "inputs", "outputs", "states", "classes", "rewrites", "waived",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a bundle says about itself; see the section on bundles in README.

    ``receptive_field``, ``lookahead`` and ``causal`` are None where the steps that are read
    have none in common, or a node cannot be followed; ``dependence`` says more, and is None in
    older bundles. ``engine`` says whether there is one, and ``builder`` what its builder said;
    both are None for targets without engines. ``layout`` says which reformulation of the graph
    was chosen among which, by what they took and where; None where there was no choice.
    ``stream`` says in which form a stream keeps its states, and what else was measured.
    ``candidates`` are the precisions that were made to choose from, if any.
    """

    name: str
    target: str
    precision: Precision
    mode: Mode
    model: str
    task: str
    signature: Signature
    classes: tuple[str, ...]
    sample_rate_hz: float | None
    source: Mapping[str, Any]
    tools: Mapping[str, str]
    host: Mapping[str, Any]
    rewrites: tuple[Mapping[str, Any], ...]
    quantization: Mapping[str, Any] | None
    parity: Mapping[str, Any]
    latency: Mapping[str, Any] | None
    verified: bool
    waived: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    candidates: Sequence[Mapping[str, Any]] | None = None
    layout: Mapping[str, Any] | None = None
    stream: Mapping[str, Any] | None = None
    engine: str | None = None
    builder: Mapping[str, Any] | None = None
    hop: int | None = None
    receptive_field: int | None = None
    lookahead: int | None = None
    causal: bool | None = None
    dependence: Mapping[str, Any] | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def judged(self) -> Signature:
        """What golden data and windows are judged as: of a stream, whole signals."""
        if self.mode == "stream":
            return self.signature.of_whole_signals()
        return self.signature

    def to_json(self) -> dict[str, Any]:
        """The content of ``manifest.json``."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "target": self.target,
            "precision": self.precision,
            "mode": self.mode,
            "hop": self.hop,
            "model": self.model,
            "settings": dict(self.settings),
            "task": self.task,
            "inputs": [spec.to_json() for spec in self.signature.inputs],
            "outputs": [spec.to_json() for spec in self.signature.outputs],
            "states": [state.to_json() for state in self.signature.states],
            "receptive_field": self.receptive_field,
            "lookahead": self.lookahead,
            "causal": self.causal,
            "dependence": dict(self.dependence) if self.dependence is not None else None,
            "sample_rate_hz": self.sample_rate_hz,
            "classes": list(self.classes),
            "source": dict(self.source),
            "tools": dict(self.tools),
            "host": dict(self.host),
            "rewrites": [dict(step) for step in self.rewrites],
            "quantization": dict(self.quantization) if self.quantization else None,
            "candidates": None if self.candidates is None else list(self.candidates),
            "layout": dict(self.layout) if self.layout is not None else None,
            "stream": dict(self.stream) if self.stream is not None else None,
            "engine": self.engine,
            "builder": dict(self.builder) if self.builder is not None else None,
            "parity": dict(self.parity),
            "latency": dict(self.latency) if self.latency else None,
            "verified": self.verified,
            "waived": list(self.waived),
            "files": dict(self.files),
        }

    @classmethod
    def from_json(cls, entries: object) -> Manifest:
        """Read the content of ``manifest.json``.

        Raises:
            ValueError: A field is missing or of another kind; the message names it.
        """
        if isinstance(entries, dict):
            entries = {**_LATER, **entries}
            for name, later in _LATER_WITHIN.items():
                if isinstance(entries.get(name), dict):
                    entries[name] = {**later, **entries[name]}
        structure.check(entries, _FORM, "manifest")
        assert isinstance(entries, dict)
        check_signature(entries)
        return cls(
            **{name: entries[name] for name in _AS_THEY_ARE},
            signature=Signature(
                tuple(TensorSpec.from_json(entry) for entry in entries["inputs"]),
                tuple(TensorSpec.from_json(entry) for entry in entries["outputs"]),
                tuple(StatePair.from_json(entry) for entry in entries["states"]),
            ),
            classes=tuple(entries["classes"]),
            rewrites=tuple(entries["rewrites"]),
            waived=tuple(entries["waived"]),
        )
