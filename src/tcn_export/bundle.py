"""The bundle: a directory that proves itself. Hashes, atomic write, load.

Loading reads every listed file once and checks its hash; what a runtime later gets are the
very bytes that were checked. It needs neither PyTorch nor ONNX.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from tcn_export.errors import BundleError, OutputError, UsageError
from tcn_export.files import write_folder
from tcn_export.manifest import MANIFEST_FILE, SCHEMA, Manifest
from tcn_export.targets import TARGETS, load_target, whole
from tcn_export.targets.base import Artifact, Mode, Precision, Runner
from tcn_export.targets.tensorrt.sidecar import ENGINE_FILE, SIDECAR_FILE

_OF_THE_DEVICE = (ENGINE_FILE, SIDECAR_FILE)
"""Not listed in the manifest: build_engine.py makes them anew wherever a bundle goes."""
_BY_HAND = (
    " A model that was changed by hand is judged beside its bundle: tcn-verify BUNDLE --model "
    "FILE --locate."
)
MOST_NAME_BYTES = 150
"""Room for target, precision and a temporary sibling in the 255 bytes of a file name."""


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
        """A runner of whole windows or signals; 0 threads takes all cores.

        Raises:
            ExportError: As `stepper` does.
        """
        return whole(self.stepper(threads), self.manifest.mode, self.manifest.signature)

    def stepper(self, threads: int = 0) -> Runner:
        """A runner of what the model takes: a window, or one hop of a stream.

        Raises:
            TargetUnavailableError: The runtime is not installed, or cannot run here.
            BundleError: The target is unknown to this version, or the runtime refuses the
                model.
        """
        if self.manifest.target not in TARGETS:
            raise BundleError(
                f"{self.path} is for the target {self.manifest.target!r}, which this version "
                "of tcn-export cannot run. Use a newer one."
            )
        return load_target(self.manifest.target).runner(self.artifact(), threads)

    def sizes(self) -> dict[str, int]:
        """Bytes of what the runtime loads, and of all files together."""
        loaded = ENGINE_FILE if ENGINE_FILE in self.files else self.manifest.model
        files = sum(len(raw) for raw in self.files.values())
        return {
            "model_bytes": len(self.files[loaded]),
            "bundle_bytes": files + (self.path / MANIFEST_FILE).stat().st_size,
        }

    def artifact(self) -> Artifact:
        """What was exported, as the target takes it."""
        manifest = self.manifest
        return Artifact(
            manifest.target,
            manifest.precision,
            manifest.mode,
            manifest.model,
            self.files,
            manifest.signature,
            manifest.settings,
        )


def bundle_path(
    out: Path, name: str, target: str, precision: str, hop: int | None = None
) -> Path:
    """Where the bundle of an export lies; one of a stream is named after its ``hop``.

    Raises:
        UsageError: The name cannot be one.
    """
    if not name.isprintable() or len(name.encode()) > MOST_NAME_BYTES:
        raise UsageError(
            f"the name {name[:40]!r} cannot be that of a folder: expected at most "
            f"{MOST_NAME_BYTES} bytes of printable text. Choose one with --name."
        )
    stream = "" if hop is None else f"-stream{hop}"
    return out / f"{name}-{target}-{precision}{stream}"


def check_vacant(path: Path, overwrite: bool) -> None:
    """Raise `OutputError` where something lies at ``path`` that may not be replaced."""
    if not os.path.lexists(path):  # False, too, where nothing can be told: see check_writable
        return
    if not overwrite:
        raise OutputError(
            f"{path} already exists. Replace it with --overwrite, or choose another --name or "
            "--out."
        )
    if not os.path.isfile(path / MANIFEST_FILE):
        raise OutputError(
            f"{path} exists and is not a bundle, so --overwrite does not replace it. Choose "
            "another --name or --out."
        )


def write_bundle(
    path: Path, manifest: Manifest, files: Mapping[str, bytes], overwrite: bool
) -> Bundle:
    """Write a bundle in one step; a crash leaves the old one or none.

    Args:
        path: The directory.
        manifest: All but the hashes, which are added here.
        files: What goes into it beside the manifest.
        overwrite: Replace a bundle that lies there.

    Raises:
        OutputError: The directory cannot be written, or something lies there meanwhile that
            may not be replaced.
    """
    check_vacant(path, overwrite)
    listed = {name: raw for name, raw in files.items() if name not in _OF_THE_DEVICE}
    hashed = replace(manifest, files={name: _sha256(raw) for name, raw in listed.items()})
    text = json.dumps(hashed.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_folder(path, {MANIFEST_FILE: text.encode(), **files}, replace=overwrite)
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
    return Bundle(path, manifest, {**_of_the_device(path, manifest), **files})


def _of_the_device(path: Path, manifest: Manifest) -> dict[str, bytes]:
    """The engine and its sidecar, which holds the hashes of both engine and model."""
    if manifest.target != "trt":
        return {}
    if any((path / n).is_symlink() or not (path / n).is_file() for n in _OF_THE_DEVICE):
        return {}
    return {name: (path / name).read_bytes() for name in _OF_THE_DEVICE}


def _read_manifest(path: Path) -> Manifest:
    try:
        entries = json.loads((path / MANIFEST_FILE).read_bytes(), parse_constant=_no_number)
    except OSError as error:
        raise BundleError(
            f"{path} is not a bundle: its {MANIFEST_FILE} cannot be read ({error.strerror}). "
            "Give the directory that tcn-export wrote."
        ) from error
    except (ValueError, RecursionError) as error:
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
        manifest = Manifest.from_json(entries)
    except ValueError as error:
        raise BundleError(
            f"{path / MANIFEST_FILE} is damaged: {error}. Export the model again."
        ) from error
    if manifest.precision not in get_args(Precision) or manifest.mode not in get_args(Mode):
        raise BundleError(
            f"{path} is of the precision {manifest.precision!r} and the mode "
            f"{manifest.mode!r}, which this version of tcn-export cannot run. Use a newer one."
        )
    return manifest


def _no_number(name: str) -> float:
    raise ValueError(f"it holds {name}, which JSON does not have")


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
            f"again.{_BY_HAND if name.endswith('.onnx') else ''}"
        )
    return raw


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
