"""Locate the layer at which a bundle, or a model that was made of it by hand, goes wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tcn_export import extras, machine
from tcn_export.bundle import Bundle
from tcn_export.data import Array
from tcn_export.errors import BundleError
from tcn_export.parity.bisect import (
    Before,
    first_outside,
    judge_layers,
    largest_step,
)
from tcn_export.parity.layers import LAYERS_FILE, Recorded, Trace, layers_from_bytes
from tcn_export.parity.location import Location
from tcn_export.parity.rows import ParityReport
from tcn_export.parity.sketch import look_at
from tcn_export.parity.tolerance import layer_noise
from tcn_export.progress import Progress, Silent
from tcn_export.verification import read_golden


def judged_bundle(bundle: Bundle, model: Path | None, is_located: bool) -> Bundle:
    """What `verify` is to judge: the bundle, or a model that was made of its own by hand.

    An engine cannot be run in pieces, nor be made of another model here: its graph is judged
    on the CPU then.

    Args:
        bundle: As it was exported.
        model: A file that stands for the bundle's model; None for its own.
        is_located: Whether a layer is to be located.

    Raises:
        BundleError: The file cannot be read.
    """
    if model is not None:
        bundle = replace(bundle, files={**bundle.files, bundle.manifest.model: _read(model)})
    if bundle.manifest.target == "trt" and (is_located or model is not None):
        bundle = replace(bundle, manifest=replace(bundle.manifest, target="onnx"))
    return bundle


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read: {error.strerror}. Expected an ONNX model with the inputs "
            "and outputs of the bundle's."
        ) from error


def locate_layer(
    bundle: Bundle,
    judged: Bundle,
    report: ParityReport,
    progress: Progress | None = None,
) -> Location:
    """Run a model in pieces, on the CPU, and find the first value that is not as it should be.

    Args:
        bundle: As it was exported.
        judged: What `judged_bundle` made of it.
        report: What `verify` said of that.
        progress: Told of every piece.

    Raises:
        MissingExtraError: The onnx package is not installed.
        BundleError: The bundle kept nothing of its layers, or the model cannot be run.
    """
    extras.require("export", "Locating a layer")
    progress = progress or Silent()
    manifest = bundle.manifest
    recorded = _recorded(bundle)
    feeds = _feeds(bundle, recorded)
    own = bundle.files[manifest.model]
    is_traced = hashlib.sha256(own).hexdigest() == recorded.model
    model = judged.files[manifest.model]
    now = _trace(model, feeds, progress)
    if model != own:
        before = Before(_trace(own, feeds, progress), True, True, _is_accepted(bundle))
    else:
        is_here = is_traced and _is_here(bundle)
        before = Before(recorded.own, is_here, is_traced, _is_accepted(bundle))
    rows = judge_layers(recorded, now, manifest.precision, before)
    first = first_outside(rows, now, before)
    step = largest_step(rows, now)
    notes = _notes(bundle, recorded, before, is_traced)
    if report.verdict == "fail" and first is None:
        notes += _whole(bundle, recorded, model, feeds)
    return Location(
        rows,
        first,
        step,
        recorded.feed,
        recorded.windows,
        notes,
    )


def _recorded(bundle: Bundle) -> Recorded:
    if LAYERS_FILE not in bundle.files:
        raise BundleError(
            f"{bundle.path} keeps nothing of its layers (it lists no {LAYERS_FILE}): an "
            "earlier version wrote it, or its values are too large to be traced. Export the "
            "model again, for shorter windows if need be."
        )
    return layers_from_bytes(bundle.files[LAYERS_FILE])


def _feeds(bundle: Bundle, recorded: Recorded) -> dict[str, Array]:
    for feed in read_golden(bundle).feeds:
        if feed.name == recorded.feed:
            return {name: x[: recorded.windows] for name, x in feed.inputs.items()}
    raise BundleError(
        f"{LAYERS_FILE} of {bundle.path} is about the signals `{recorded.feed}`, which its "
        "golden data lack. It was altered; export the model again."
    )


def _trace(model: bytes, feeds: Mapping[str, Array], progress: Progress) -> Trace:
    from tcn_export.targets.segments import read_graph, run_units

    graph, trace = read_graph(model), Trace()
    with progress.stage("Running the graph in pieces", len(graph.units)) as advance:
        run_units(graph, feeds, trace.add, advance)
    return trace


def _is_accepted(bundle: Bundle) -> bool:
    return bool(bundle.manifest.parity["verdict"] == "pass")


def _is_here(bundle: Bundle) -> bool:
    """Whether the export was made on this kind of machine, with this runtime."""
    manifest = bundle.manifest
    same_tools = manifest.tools.get("onnxruntime") == machine.tools().get("onnxruntime")
    return same_tools and manifest.host == machine.host()


def _notes(
    bundle: Bundle, recorded: Recorded, before: Before, is_traced: bool
) -> tuple[str, ...]:
    notes = []
    target = bundle.manifest.target
    if target != "onnx":
        notes.append(
            f"the layers ran in ONNX Runtime on the CPU, not on the target ({target})"
        )
    if recorded.oracle != "float64":
        notes.append(f"the reference was computed in {recorded.oracle}")
    if not is_traced:
        notes.append(
            "the bundle's model is not the one that was traced at the export: another layout "
            "was chosen, or it was altered"
        )
    elif not before.is_same_machine:
        notes.append(
            "the export was made on another machine, or with another ONNX Runtime: values "
            "may differ by as much noise as they had"
        )
    return tuple(notes)


def _whole(
    bundle: Bundle, recorded: Recorded, model: bytes, feeds: Mapping[str, Array]
) -> tuple[str, ...]:
    """Whether the pieces are right and the whole is not, and whether fusions are why."""
    from tcn_export.targets.segments import run_whole

    if _is_right(bundle, recorded, run_whole(model, feeds, is_optimized=True)):
        return (
            (
                f"on {recorded.windows} windows of `{recorded.feed}` every layer and the "
                "whole are within their limits; what failed needs other signals to show"
            ),
        )
    plain = _is_right(bundle, recorded, run_whole(model, feeds, is_optimized=False))
    told = "the pieces are right, the whole is not: a fusion of the runtime"
    if plain:
        return (f"{told}; with ORT_DISABLE_ALL as its graph_optimization_level it is right",)
    return (f"{told}, and not one that ORT_DISABLE_ALL leaves out",)


def _is_right(bundle: Bundle, recorded: Recorded, outputs: Mapping[str, Array]) -> bool:
    for name, value in outputs.items():
        wanted = recorded.reference.get(name)
        if wanted is None:
            continue
        noise = recorded.float32_noise[name]
        allowed = layer_noise(bundle.manifest.precision, recorded.kind, wanted.energy, noise)
        if look_at(value).noise(wanted) > allowed:
            return False
    return True
