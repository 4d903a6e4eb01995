"""Holds what source texts touch of TensorRT against the versions we recorded.

One code path runs on all of them, so what it touches is in all of them; api_reader says how
the touches are found. surface.json is written by tools/record_tensorrt_surface.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from targets.tensorrt.api_reader import Reader, Touch

SURFACE = Path(__file__).with_name("surface.json")
VERSIONS = ("10.3", "10.16", "11.4", "rtx-1.7")

PRECISION = "precision lives in the graph, and 11 has no weak typing"
# Owner and name as whole regular expressions, and why not even getattr may ask for it.
FORBIDDEN = (
    ("BuilderFlag", "FP16|BF16|FP8|FP4|INT8|INT4|(OBEY|PREFER)_PRECISION_.*", PRECISION),
    ("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH", "it is the default in 10, gone in 11"),
    (
        "IBuilderConfig",
        "int8_calibrator|.*calibration_profile|.*quantization_flags?",
        PRECISION,
    ),
    ("IBuilderConfig", "algorithm_selector", "11 has none"),
    ("ITensor", "(re)?set_dynamic_range|dynamic_range", PRECISION),
    ("I.*Layer", "(re)?set_(precision|output_type)|precision(_is_set)?", PRECISION),
    ("I.*Layer", "output_type_is_set", PRECISION),
    ("Builder", "platform_has_.*", "the answer belongs to weak typing; 11 has none"),
    ("", "IInt8.*|CalibrationAlgoType|QuantizationFlag", "calibration is ours"),
    (
        "ICudaEngine",
        "device_memory_size",
        "11 has device_memory_size_v2 only, and so does 10.3",
    ),
)
# These mean nothing else, so they are refused on any object.
DISTINCTIVE = frozenset({
    "int8_calibrator",
    "dynamic_range",
    "set_dynamic_range",
    "set_output_type",
    "platform_has_fast_fp16",
    "platform_has_fast_int8",
    "platform_has_tf32",
})

Surface = Mapping[str, Mapping[str, Any]]


def recorded() -> Surface:
    """The recorded versions, by label."""
    surface: Surface = json.loads(SURFACE.read_text())
    return surface


def names_of(surface: Surface, version: str, owner: str) -> set[str] | None:
    """The attributes of a class, or of the module; None where there is no such class."""
    told = surface[version]["classes"].get(owner) if owner else surface[version]["names"]
    return None if told is None else set(told)


def touched(source: str, file: str, surface: Surface) -> list[Touch]:
    """Every attribute of TensorRT that a source text touches."""
    classes = frozenset(name for told in surface.values() for name in told["classes"])
    return Reader(file, classes, DISTINCTIVE).read(source)


def violations(touches: list[Touch], surface: Surface) -> list[str]:
    """What breaks the contract: where, what, and in which versions it is missing."""
    asked = {(t.file, t.function, t.owner, t.name) for t in touches if t.optional}
    found = []
    for touch in touches:
        guarded = (touch.file, touch.function, touch.owner, touch.name) in asked
        problem = problem_of(touch, guarded, surface)
        if problem:
            found.append(f"{touch.where}: {touch.what} {problem}")
    return found


def problem_of(touch: Touch, guarded: bool, surface: Surface) -> str:
    """What is wrong with one touch; empty when nothing is."""
    if touch.owner is None:
        return f"is forbidden: {PRECISION}"
    if touch.name is None:
        return "is asked for a computed name; write the names out where getattr is called"
    for owner, name, reason in FORBIDDEN:
        if re.fullmatch(owner, touch.owner) and re.fullmatch(name, touch.name):
            return f"is forbidden: {reason}"
    told = {version: names_of(surface, version, touch.owner) for version in VERSIONS}
    lacking = [v for v, names in told.items() if names is not None and touch.name not in names]
    if len(lacking) == sum(names is not None for names in told.values()):
        return "is in none of the recorded versions; if the object is ours, annotate it"
    if lacking and not guarded:
        versions = ", ".join(lacking)
        return f"is not in {versions}; ask with getattr or hasattr in the same function"
    return ""


def check(sources: Mapping[str, str], surface: Surface) -> list[str]:
    """Every breach of the contract in some source texts, by file name."""
    return [
        problem
        for file, source in sources.items()
        for problem in violations(touched(source, file, surface), surface)
    ]
