"""Optional dependencies: which packages each extra brings, and the error that names the extra.

The core needs numpy, click and rich only; whatever else a command needs is asked for here
before it is imported, so that a missing package is one line with the command that installs it.
"""

from __future__ import annotations

from importlib.util import find_spec

from tcn_export.errors import MissingExtraError

EXTRAS: dict[str, tuple[str, ...]] = {
    "export": ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "jinja2"),
    "cpu": ("onnxruntime",),
    "gpu": ("onnxruntime",),  # another wheel with the same module; targets/providers.py looks
    "train": ("torch", "lightning", "aeon"),
}


def require(extra: str, purpose: str) -> None:
    """Raise `MissingExtraError` unless every package of an extra can be imported.

    Args:
        extra: A key of `EXTRAS`.
        purpose: What the user asked for, as the subject of the error: "Exporting".

    Raises:
        MissingExtraError: Names the missing packages and the command that installs them.
    """
    missing = [name for name in EXTRAS[extra] if find_spec(name) is None]
    if missing:
        packages = ", ".join(f"`{name}`" for name in missing)
        raise MissingExtraError(
            f"{purpose} needs {packages}, which the extra `{extra}` brings "
            "and which is not installed here. Install it with: pip install "
            f"'tcn-export[{extra}]'"
        )
