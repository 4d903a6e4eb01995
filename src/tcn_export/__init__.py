"""Export causal TCNs and 1D-ResNets from PyTorch to the edge, and prove them the same.

The public names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tcn_export.bundle import Bundle, load_bundle
    from tcn_export.options import ExportOptions
    from tcn_export.pipeline import ExportResult, export
    from tcn_export.streaming import StreamSession, open_stream
    from tcn_export.verification import verify

__version__ = "0.1.0"

__all__ = [
    "Bundle", "ExportOptions", "ExportResult", "StreamSession", "export", "load_bundle",
    "open_stream", "verify",
]  # fmt: skip

_HOME = {
    "Bundle": "tcn_export.bundle",
    "load_bundle": "tcn_export.bundle",
    "ExportOptions": "tcn_export.options",
    "ExportResult": "tcn_export.pipeline",
    "export": "tcn_export.pipeline",
    "StreamSession": "tcn_export.streaming",
    "open_stream": "tcn_export.streaming",
    "verify": "tcn_export.verification",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tcn_export' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
