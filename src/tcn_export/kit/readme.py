"""The page that lies in a device kit: what to do with it, on which device."""

from __future__ import annotations

from importlib import resources
from string import Template

from tcn_export import __version__
from tcn_export.manifest import Manifest
from tcn_export.targets.tensorrt.trtexec import trtexec_line

KIT_README = "README.md"


def kit_readme(manifest: Manifest) -> bytes:
    """Fill the page in for one kit."""
    page = resources.files("tcn_export.kit").joinpath("readme.md").read_text(encoding="utf-8")
    rows = [row for row in manifest.parity["rows"] if row["status"] in ("pass", "fail")]
    signature = manifest.signature
    tensors = [
        f"- {side} `{spec.name}`: {spec.dtype}, {' x '.join(map(str, spec.shape))}"
        for side, specs in (("input", signature.inputs), ("output", signature.outputs))
        for spec in specs
    ]
    line = {
        version: trtexec_line(version, manifest.precision, manifest.settings)
        for version in ("10.3", "8.6")
    }
    return (
        Template(page)
        .substitute(
            name=manifest.name,
            precision=manifest.precision,
            version=__version__,
            passed=sum(row["status"] == "pass" for row in rows),
            judged=len(rows),
            engine=manifest.engine,
            tensors="\n".join(tensors),
            opset=manifest.settings["opset"],
            trtexec=line["10.3"],
            trtexec_old=line["8.6"],
        )
        .encode()
    )
