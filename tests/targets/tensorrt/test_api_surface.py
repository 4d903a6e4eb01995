"""The record of TensorRT's names is what we know of its versions."""

from __future__ import annotations

import re

import pytest

from targets.tensorrt.api_contract import (
    DISTINCTIVE,
    FORBIDDEN,
    VERSIONS,
    names_of,
    recorded,
)
from targets.tensorrt.api_reader import CONVENTION, RESULTS


@pytest.fixture(scope="module")
def surface():
    return recorded()


def test_record_says_what_it_was_made_from(surface):
    assert set(surface) == set(VERSIONS)
    for label, told in surface.items():
        version = label.removeprefix("rtx-")
        assert told["version"].startswith(f"{version}.")
        assert ("rtx" in label) == (told["package"] == "tensorrt-rtx")


def test_record_is_of_the_installed_tensorrt_rtx(surface):
    rtx = pytest.importorskip("tensorrt_rtx")
    if rtx.__version__ != surface["rtx-1.7"]["version"]:
        pytest.skip(f"the record is of {surface['rtx-1.7']['version']}, not {rtx.__version__}")
    for name in {*CONVENTION.values(), *RESULTS.values(), "BuilderFlag"}:
        public = {word for word in dir(getattr(rtx, name)) if not word.startswith("_")}
        assert public == names_of(surface, "rtx-1.7", name)


def test_convention_names_what_exists(surface):
    for name in {*CONVENTION.values(), *RESULTS.values()} - {"IRuntimeConfig"}:
        assert all(names_of(surface, version, name) for version in VERSIONS), name
    known = {name for names in surface["11.4"]["classes"].values() for name in names}
    assert set(RESULTS) <= known


@pytest.mark.parametrize(("owner", "names", "reason"), FORBIDDEN)
def test_what_is_forbidden_is_in_10_and_gone_in_11(surface, owner, names, reason):
    def has(version):
        return {
            (known, name)
            for known in ["", *surface[version]["classes"]]
            if re.fullmatch(owner, known)
            for name in names_of(surface, version, known)
            if re.fullmatch(names, name)
        }

    assert has("10.3")
    assert not has("11.4") | has("rtx-1.7")


def test_distinctive_names_are_gone_from_every_class(surface):
    for told in surface["10.3"], surface["11.4"]:
        known = {name for names in told["classes"].values() for name in names}
        assert (known >= DISTINCTIVE) == (told is surface["10.3"])
        assert known & DISTINCTIVE in (set(), DISTINCTIVE)


# Which of 10.3, 10.16, 11.4 and rtx 1.7 have it: facts learned apart from the record.
FACTS = {
    "BuilderFlag": {
        "FP16": "++--",
        "INT8": "++--",
        "BF16": "++--",
        "FP8": "++--",
        "INT4": "++--",
        "FP4": "-+--",
        "WEIGHTLESS": "++--",
        "TF32": "++++",
        "REFIT": "++++",
        "STRIP_PLAN": "++++",
        "VERSION_COMPATIBLE": "++++",
        "GPU_FALLBACK": "++++",
        "EDITABLE_TIMING_CACHE": "-+++",
        "MONITOR_MEMORY": "-+++",
        "STRICT_NANS": "-+++",
    },
    "NetworkDefinitionCreationFlag": {"EXPLICIT_BATCH": "++--", "STRONGLY_TYPED": "++++"},
    "IBuilderConfig": {
        "int8_calibrator": "++--",
        "algorithm_selector": "++--",
        "build_route": "--++",
        "progress_monitor": "++++",
        "num_compute_capabilities": "---+",
        "DLA_core": "++++",
    },
    "ITensor": {"set_dynamic_range": "++--"},
    "ILayer": {"precision": "++--", "set_output_type": "++--"},
    "Builder": {
        "platform_has_fast_fp16": "++--",
        "platform_has_fast_int8": "++--",
        "platform_has_tf32": "++--",
        "build_serialized_network": "++++",
        "build_engine_with_config": "-++-",
    },
    "HardwareCompatibilityLevel": {"AMPERE_PLUS": "++++", "SAME_COMPUTE_CAPABILITY": "-+++"},
    "TacticSource": {"CUBLAS": "++--", "CUDNN": "++--", "JIT_CONVOLUTIONS": "++++"},
    "IExecutionContext": {
        "set_input_shape": "++++",
        "set_tensor_address": "++++",
        "execute_async_v3": "++++",
    },
    "ICudaEngine": {
        "device_memory_size_v2": "++++",
        "device_memory_size": "++--",
        "has_implicit_batch_dimension": "++--",
        "create_engine_inspector": "++++",
    },
    "OnnxParser": {
        "parse_from_file": "++++",
        "supports_model_v2": "++++",
        "supports_model": "++--",
        "parse_with_weight_descriptors": "++--",
    },
    "Runtime": {"get_engine_validity": "---+"},
    "DeviceType": {"DLA": "++++"},
    "": {
        "IInt8EntropyCalibrator2": "++--",
        "ITimingCache": "++++",
        "IProgressMonitor": "++++",
        "CudaGraphStrategy": "---+",
        "IRuntimeConfig": "-+++",
    },
}
ROWS = [(owner, name, have) for owner, names in FACTS.items() for name, have in names.items()]


@pytest.mark.parametrize(("owner", "name", "have"), ROWS)
def test_record_says_what_is_known_of_the_versions(surface, owner, name, have):
    found = [name in names_of(surface, version, owner) for version in VERSIONS]
    assert found == [sign == "+" for sign in have]
