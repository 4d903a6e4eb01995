from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tcn_export.errors import BundleError
from tcn_export.targets.cuda_driver import Device
from tcn_export.targets.tensorrt.sidecar import check_sidecar, make_sidecar, read_sidecar

ORIN = Device("Orin", "8.7", 7619, is_integrated=True)
PLAN, MODEL = b"plan", b"model"


def sidecar() -> dict:
    made = make_sidecar(PLAN, MODEL, "tensorrt", "10.3.0", ORIN, "12.6", {})
    return read_sidecar(json.dumps(made).encode())


def test_an_engine_of_this_machine_passes():
    check_sidecar(sidecar(), PLAN, MODEL, "tensorrt", "10.3.0", ORIN)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (PLAN, MODEL, "tensorrt", "10.16.1", replace(ORIN, compute_capability="8.9")),
            (
                r"was built with tensorrt 10\.3\.0 for SM 8\.7; this is tensorrt 10\.16\.1 on "
                r"SM 8\.9\. Rebuild it on this device: python3 build_engine\.py"
            ),
        ),
        ((PLAN, MODEL, "tensorrt_rtx", "10.3.0", ORIN), "this is tensorrt_rtx 10.3.0 on SM"),
        ((b"other", MODEL, "tensorrt", "10.3.0", ORIN), "is not the engine that was verified"),
        ((PLAN, b"other", "tensorrt", "10.3.0", ORIN), "was built from another model"),
    ],
)
def test_an_engine_of_another_place_is_told_apart(arguments, message):
    with pytest.raises(BundleError, match=message):
        check_sidecar(sidecar(), *arguments)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"schema": 2}',
        json.dumps({**sidecar(), "schema": 2}).encode(),
        json.dumps({**sidecar(), "device": 3}).encode(),
        json.dumps({**sidecar(), "version": 10}).encode(),
    ],
)
def test_damaged_sidecars_are_one_kind_of_error(raw):
    with pytest.raises(BundleError, match=r"model\.engine\.json is (damaged|of another form)"):
        read_sidecar(raw)
