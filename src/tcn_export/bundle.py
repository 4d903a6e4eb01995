"""The bundle: a directory that proves itself. Manifest, hashes, atomic write, load.

Loading reads every listed file once and checks its hash; what a runtime later gets are the
very bytes that were checked. It needs neither PyTorch nor ONNX.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from tcn_export.errors import BundleError, OutputError
from tcn_export.files import write_folder
from tcn_export.graph import Signature, StatePair, TensorSpec
from tcn_export.targets import TARGETS, load_target
from tcn_export.targets.base import Precision, Runner

MANIFEST_FILE = "manifest.json"
# Schema history. 1: 2026-11-23, first.
SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a bundle says about itself; see the section on bundles in README.

    ``receptive_field``, ``lookahead`` and ``causal`` are None where the time axis was not
    analysed.
    """

    name: str
    target: str
    precision: Precision
    mode: str
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
    hop: int | None = None
    receptive_field: int | None = None
    lookahead: int | None = None
    causal: bool | None = None
    files: Mapping[str, str] = field(default_factory=dict)

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
            "task": self.task,
            "inputs": [spec.to_json() for spec in self.signature.inputs],
            "outputs": [spec.to_json() for spec in self.signature.outputs],
            "states": [state.to_json() for state in self.signature.states],
            "receptive_field": self.receptive_field,
            "lookahead": self.lookahead,
            "causal": self.causal,
            "sample_rate_hz": self.sample_rate_hz,
            "classes": list(self.classes),
            "source": dict(self.source),
            "tools": dict(self.tools),
            "host": dict(self.host),
            "rewrites": [dict(step) for step in self.rewrites],
            "quantization": dict(self.quantization) if self.quantization else None,
            "parity": dict(self.parity),
            "latency": dict(self.latency) if self.latency else None,
            "verified": self.verified,
            "waived": list(self.waived),
            "files": dict(self.files),
        }

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> Manifest:
        """Read the content of ``manifest.json``.

        Raises:
            KeyError, TypeError, ValueError: A field is missing or of another kind.
        """
        if entries["precision"] not in get_args(Precision):
            raise ValueError(f"the precision {entries['precision']!r} is not known")
        return cls(
            name=_text(entries["name"]),
            target=_text(entries["target"]),
            precision=entries["precision"],
            mode=_text(entries["mode"]),
            hop=entries["hop"],
            model=_text(entries["model"]),
            task=_text(entries["task"]),
            signature=Signature(
                tuple(TensorSpec.from_json(entry) for entry in entries["inputs"]),
                tuple(TensorSpec.from_json(entry) for entry in entries["outputs"]),
                tuple(StatePair.from_json(entry) for entry in entries["states"]),
            ),
            receptive_field=entries["receptive_field"],
            lookahead=entries["lookahead"],
            causal=entries["causal"],
            sample_rate_hz=entries["sample_rate_hz"],
            classes=tuple(map(str, entries["classes"])),
            source=dict(entries["source"]),
            tools=dict(entries["tools"]),
            host=dict(entries["host"]),
            rewrites=tuple(dict(step) for step in entries["rewrites"]),
            quantization=dict(entries["quantization"]) if entries["quantization"] else None,
            parity=dict(entries["parity"]),
            latency=dict(entries["latency"]) if entries["latency"] else None,
            verified=bool(entries["verified"]),
            waived=tuple(map(str, entries["waived"])),
            files={_text(k): _text(v) for k, v in entries["files"].items()},
        )


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose every file was read and checked.

    Attributes:
        path: The directory.
        manifest: What it says about itself.
        files: The content of every file it lists.
    """

    path: Path
    manifest: Manifest
    files: Mapping[str, bytes]

    def runner(self, threads: int = 0) -> Runner:
        """A runner for the bundle's model; 0 threads takes all cores.

        Raises:
            MissingExtraError: The runtime is not installed.
            BundleError: The target is unknown to this version, or the runtime refuses the
                model.
        """
        if self.manifest.target not in TARGETS:
            raise BundleError(
                f"{self.path} is for the target {self.manifest.target!r}, which this version "
                "of tcn-export cannot run. Use a newer one."
            )
        target = load_target(self.manifest.target)
        return target.runner(self.files[self.manifest.model], self.manifest.signature, threads)


def bundle_path(out: Path, name: str, target: str, precision: str) -> Path:
    """Where the bundle of an export lies."""
    return out / f"{name}-{target}-{precision}"


def check_vacant(path: Path, overwrite: bool) -> None:
    """Raise `OutputError` where something lies at ``path`` that may not be replaced."""
    if not path.exists():
        return
    if not overwrite:
        raise OutputError(
            f"{path} already exists. Replace it with --overwrite, or choose another --name or "
            "--out."
        )
    if not (path / MANIFEST_FILE).is_file():
        raise OutputError(
            f"{path} exists and is not a bundle, so --overwrite does not replace it. Choose "
            "another --name or --out."
        )


def write_bundle(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle in one step; a crash leaves the old one or none.

    Raises:
        OutputError: The directory cannot be written.
    """
    hashed = replace(manifest, files={name: _sha256(raw) for name, raw in files.items()})
    text = json.dumps(hashed.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_folder(path, {MANIFEST_FILE: text.encode(), **files})
    return Bundle(path, hashed, dict(files))


def load_bundle(path: Path | str) -> Bundle:
    """Read a bundle, checking schema, paths and hashes before anything uses its content.

    Raises:
        BundleError: It is no bundle, or was damaged or altered.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    files = {name: _read_file(path, name, digest) for name, digest in manifest.files.items()}
    if manifest.model not in files:
        raise BundleError(
            f"{path} lists no hash for its model `{manifest.model}`. Export it again."
        )
    return Bundle(path, manifest, files)


def _read_manifest(path: Path) -> Manifest:
    try:
        entries = json.loads((path / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise BundleError(
            f"{path} is not a bundle: its {MANIFEST_FILE} cannot be read ({error.strerror}). "
            "Give the directory that tcn-export wrote."
        ) from error
    except ValueError as error:
        raise BundleError(
            f"{path / MANIFEST_FILE} is not JSON: {error}. Export it again."
        ) from error
    if not isinstance(entries, dict) or entries.get("schema") != SCHEMA:
        found = entries.get("schema") if isinstance(entries, dict) else None
        raise BundleError(
            f"{path / MANIFEST_FILE} has the schema {found!r}; this version reads {SCHEMA}. "
            "Use the version of tcn-export that wrote it, or export the model again."
        )
    try:
        return Manifest.from_json(entries)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(
            f"{path / MANIFEST_FILE} is incomplete or damaged: {type(error).__name__} "
            f"{error}. Export the model again."
        ) from error


def _read_file(path: Path, name: str, digest: str) -> bytes:
    file = path / name
    if Path(name).name != name or name in ("", ".", "..") or file.is_symlink():
        raise BundleError(f"{path} lists {name!r}, which does not lie in it. It was altered.")
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} lacks its file {name}: {error.strerror}.") from error
    if _sha256(raw) != digest:
        raise BundleError(
            f"{file} is not the file that was exported: its sha256 is {_sha256(raw)[:12]}..., "
            f"the manifest says {digest[:12]}.... Copy the bundle again, or export the model "
            "again."
        )
    return raw


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {value!r}")
    return value
