"""The page that lies in a device kit: what to do with it, on which device."""

from __future__ import annotations

from importlib import resources
from string import Template

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
    page = resources.files("tcn_export.kit").joinpath("readme.md").read_text(encoding="utf-8")
    oldest = VERSIONS[manifest.settings["version"]]
    library = oldest.found_in if oldest.name == "rtx" else f"TensorRT {oldest.name} or newer"
    return (
        Template(page)
        .substitute(
            name=manifest.name,
            precision=manifest.precision,
            version=__version__,
            verdict=_verdict(manifest),
            engine=manifest.engine,
            library=library,
            tensors="\n".join(_tensors(manifest)),
            jetpacks="" if oldest.name == "rtx" else _jetpacks(manifest, oldest.name),
        )
        .encode()
    )


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
