"""The page that lies in a device kit: what to do with it, on which device."""

from __future__ import annotations

import math
from importlib import resources
from string import Template

import numpy as np

from tcn_export import __version__
from tcn_export.manifest import Manifest
from tcn_export.targets.tensorrt.probe import version_numbers
from tcn_export.targets.tensorrt.trtexec import trtexec_line
from tcn_export.targets.tensorrt.versions import VERSIONS

KIT_README = "README.md"


_JETPACKS = (("7.2.2 and newer", "11.4"), ("7.2", "10.16"), ("6.1, 6.2", "10.3"))
_TENSORRT_8 = (("6.0", "8.6"), ("5.1", "8.5"))
_HOW_8_BUILDS = (
    "TensorRT 8 reads operators up to version 17, and chooses the precision of each layer as "
    "far as a flag allows it. `tools/write_for_tensorrt8.py model.onnx model.onnx`, in the "
    "sources of tcn-export, writes the graph for it; then"
)


def kit_readme(manifest: Manifest) -> bytes:
    """Fill the page in for one kit."""
    page = _page("readme.md")
    oldest = VERSIONS[manifest.settings["version"]]
    library = oldest.found_in if oldest.name == "rtx" else f"TensorRT {oldest.name} or newer"
    return page.substitute(
        name=manifest.name,
        precision=manifest.precision,
        version=__version__,
        verdict=_verdict(manifest),
        engine=manifest.engine,
        library=library,
        tensors="\n".join(_tensors(manifest)),
        stream="" if manifest.mode == "window" else _stream(manifest),
        jetpacks="" if oldest.name == "rtx" else _jetpacks(manifest, oldest.name),
    ).encode()


def _page(name: str) -> Template:
    text = resources.files("tcn_export.kit").joinpath(name).read_text(encoding="utf-8")
    return Template(text)


def _stream(manifest: Manifest) -> str:
    """How a stream is run for long, and by a program of the user's."""
    hop, rate = manifest.hop, manifest.sample_rate_hz
    signature = manifest.signature
    feeds = (f'"{spec.name}": next_hop()' for spec in signature.inputs)
    late = f"how that compares with the {rate:g} Hz at which the signal comes" if rate else ""
    return _page("readme_stream.md").substitute(
        hop=_count(hop or 1, "step"),
        states=_count(len(signature.states), "state"),
        bytes=f"{_state_bytes(manifest):,} bytes",
        delays="\n".join(
            f"The first {_count(spec.delay, 'step')} of `{spec.name}` mean nothing: so far "
            "ahead the network looks."
            for spec in signature.outputs
            if spec.delay
        ),
        rate=late or "what one hop in a hundred exceeds",
        module="tensorrt_rtx" if manifest.settings["runtime"] == "rtx" else "tensorrt",
        feeds=", ".join(feeds),
    )


def _state_bytes(manifest: Manifest) -> int:
    return sum(
        math.prod(1 if isinstance(n, str) else n for n in state.shape)
        * np.dtype(state.dtype).itemsize
        for state in manifest.signature.states
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _verdict(manifest: Manifest) -> str:
    rows = [row for row in manifest.parity["rows"] if row["status"] in ("pass", "fail")]
    failed = sum(row["status"] == "fail" for row in rows)
    if failed:
        return f"PARITY LOST, {failed} of {len(rows)} checks failed; do not use it"
    waived = "".join(f"; waived: {check}" for check in manifest.waived)
    return f"passed, {len(rows)} checks{waived}"


def _tensors(manifest: Manifest) -> list[str]:
    signature, profiles = manifest.signature, manifest.settings["profiles"]
    lines = []
    for side, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            line = f"- {side} `{spec.name}`: {spec.dtype}, {' x '.join(map(str, spec.shape))}"
            if spec.name in profiles:
                smallest, _, largest = profiles[spec.name]
                line += f", from {_sizes(smallest)} to {_sizes(largest)}"
            lines.append(line)
    return lines


def _sizes(shape: list[int]) -> str:
    return " x ".join(map(str, shape))


def _jetpacks(manifest: Manifest, oldest: str) -> str:
    """Which JetPack builds it, and how."""
    lines = ["## Which JetPack", "", "| JetPack | TensorRT | how |", "|---|---|---|"]
    for jetpack, version in _JETPACKS:
        if version_numbers(version) >= version_numbers(oldest):
            lines.append(f"| {jetpack} | {version} | `python3 build_engine.py` |")
    for jetpack, version in _TENSORRT_8:
        lines.append(
            f"| {jetpack} | {version} | trtexec; nothing compares the outputs for you |"
        )
    for title, version in (
        ("From TensorRT 11 on trtexec builds the same engine", "11"),
        ("With TensorRT 10 trtexec builds the same engine", "10.3"),
        (_HOW_8_BUILDS, "8.6"),
    ):
        if version == "8.6" or version_numbers(version) >= version_numbers(oldest):
            line = trtexec_line(version, manifest.precision, manifest.settings)
            lines += ["", f"{title}:", "", "```", line, "```"]
    return "\n".join(lines)
