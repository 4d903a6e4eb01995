"""What a stream is judged by where its means are not those of the eager model.

A mean since the stream began has no steps of what is still to come, and one over the last W
steps leaves the others out; the eager model can be asked for neither. Its captured graph can,
with shorter means written into it: in float64, after it was shown to be what the model is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tcn_export.errors import UnsupportedModelError
from tcn_export.graph import LENGTH
from tcn_export.parity.feeds import SignalScale, noise_windows
from tcn_export.parity.metrics import max_abs_error

if TYPE_CHECKING:
    from tcn_export.rewrite.cut_means import Cut
    from tcn_export.source.base import Source

_SAME = 1e-9
"""Relative, between two evaluations of one network in float64; a wrong graph errs more."""
_NOTE = (
    "the stream's mean over time is not the mean over a whole window: it was judged by the "
    "captured graph in float64, with that mean written into it"
)


def cut_source(source: Source, cuts: Mapping[str, Cut], opset: int, seed: int) -> Source:
    """The same network, with the means of the stream; itself where those are its own.

    Args:
        source: Holds the eager model.
        cuts: By node, what the means of the stream are taken of.
        opset: Of the graph.
        seed: Of the windows on which graph and model are compared.

    Raises:
        UnsupportedModelError: The captured graph is not what the eager model computes.
    """
    if not cuts:
        return source
    import onnx_ir as ir

    from tcn_export.capture import capture
    from tcn_export.parity.oracle import Oracle
    from tcn_export.rewrite.base import run
    from tcn_export.rewrite.cut_means import CutMeans
    from tcn_export.source.onnx_module import OnnxModule

    is_open = source.signature.inputs[0].shape[2] == LENGTH
    graph = capture(source, None if is_open else source.length, opset)
    whole = OnnxModule(ir.to_proto(graph.model)).eval()
    windows = noise_windows(SignalScale(source.center, source.spread), source.length, 2, seed)
    name = source.signature.inputs[0].name
    (own,), (captured,) = (
        list(Oracle(module, source.signature).batches(name, windows, both=False))
        for module in (source.module, whole)
    )
    for output, value in own.float64.items():
        error = max_abs_error(captured.float64[output], value)
        if not error <= _SAME * float(np.abs(value).max()):
            raise UnsupportedModelError(
                f"the captured graph of {source.origin} differs from it by {error:.1e} in "
                f"`{output}` in float64, so a mean over fewer steps cannot be judged by it. "
                "Let the network answer at every step, and take the mean outside."
            )
    cut = OnnxModule(ir.to_proto(run(CutMeans(cuts), graph).model)).eval()
    return replace(source, module=cut, notes=(*source.notes, _NOTE))
