"""The sidecar of an engine: for what it was built, checked before TensorRT sees a byte of it.

An engine runs with the version of TensorRT, and on the compute capability, that it was built
for; TensorRT says so in words that do not tell what to do, or not at all.

Part of ``build_engine.py``: Python 3.8, standard library only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tcn_export.errors import BundleError
from tcn_export.targets.cuda_driver import Device

ENGINE_FILE = "model.engine"
SIDECAR_FILE = "model.engine.json"
# Schema history. 1: 2026-11-24, first.
_SCHEMA = 1


def make_sidecar(
    plan: bytes,
    model: bytes,
    runtime: str,
    version: str,
    device: Device,
    driver: str | None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of `SIDECAR_FILE`."""
    return {
        "schema": _SCHEMA,
        "engine_sha256": hashlib.sha256(plan).hexdigest(),
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "runtime": runtime,
        "version": version,
        "device": device.to_json(),
        "driver": driver,
        "settings": dict(settings),
    }


def read_sidecar(raw: bytes) -> dict[str, Any]:
    """Read a sidecar.

    Raises:
        BundleError: It is damaged.
    """
    try:
        content = json.loads(raw)
        device = content["device"]["compute_capability"]
        texts = [device] + [
            content[k] for k in ("engine_sha256", "model_sha256", "runtime", "version")
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{SIDECAR_FILE} is damaged: {error!r}. {_REBUILD}") from error
    if content.get("schema") != _SCHEMA or not all(isinstance(text, str) for text in texts):
        raise BundleError(f"{SIDECAR_FILE} is of another form than expected. {_REBUILD}")
    return dict(content)


def check_sidecar(
    sidecar: Mapping[str, Any],
    plan: bytes,
    model: bytes,
    runtime: str,
    version: str,
    device: Device,
) -> None:
    """Raise `BundleError` unless an engine belongs to this model, library and device."""
    if hashlib.sha256(plan).hexdigest() != sidecar["engine_sha256"]:
        raise BundleError(f"{ENGINE_FILE} is not the engine that was verified. {_REBUILD}")
    if hashlib.sha256(model).hexdigest() != sidecar["model_sha256"]:
        raise BundleError(f"{ENGINE_FILE} was built from another model. {_REBUILD}")
    built = (sidecar["runtime"], sidecar["version"], sidecar["device"]["compute_capability"])
    here = (runtime, version, device.compute_capability)
    if built != here:
        raise BundleError(
            f"{ENGINE_FILE} was built with {built[0]} {built[1]} for SM {built[2]}; this is "
            f"{here[0]} {here[1]} on SM {here[2]}. {_REBUILD}"
        )


_REBUILD = "Rebuild it on this device: python3 build_engine.py"
