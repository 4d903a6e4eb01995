"""Locate the layer at which a bundle, or a model that was made of it by hand, goes wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tcn_export import extras, machine
from tcn_export.bundle import Bundle
from tcn_export.data import Array
from tcn_export.errors import BundleError, UsageError
from tcn_export.parity.bisect import (
    Before,
    first_outside,
    judge_layers,
    largest_step,
)
from tcn_export.parity.golden import Feed, Golden
from tcn_export.parity.layers import LAYERS_FILE, Recorded, Trace, layers_from_bytes
from tcn_export.parity.location import Location
from tcn_export.parity.rows import ParityReport
from tcn_export.progress import Progress, Silent
from tcn_export.unlocated import why_no_layer
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
        MissingExtraError: A layer is to be located, and the onnx package is not installed.
    """
    if is_located:
        extras.require("export", "Locating a layer")
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
        BundleError: The bundle kept nothing of its layers, or the model cannot be run.
    """
    progress = progress or Silent()
    recorded, golden = _recorded(bundle), read_golden(bundle)
    models = bundle.files[bundle.manifest.model], judged.files[bundle.manifest.model]
    found = _search(bundle, recorded, models, _signals(bundle, recorded, golden), progress)
    if report.verdict == "pass" or found.first is not None:
        return found
    failed = {row.feed for row in report.failures} - {recorded.feed}
    others = [feed for feed in golden.feeds if feed.name in failed]
    for feed in others if models[0] != models[1] else ():
        elsewhere = _without_reference(recorded, feed)
        other = _search(bundle, elsewhere, models, feed.inputs, progress)
        if other.first is not None:
            return other
    why = why_no_layer(bundle, recorded, golden, models[1])
    return replace(found, notes=(*found.notes, why))


def _search(
    bundle: Bundle,
    recorded: Recorded,
    models: tuple[bytes, bytes],
    feeds: Mapping[str, Array],
    progress: Progress,
) -> Location:
    """Run the second model; beside the first one, unless both are the bundle's own."""
    own, model = models
    is_traced = hashlib.sha256(own).hexdigest() == recorded.model
    now = _trace(model, feeds, progress)
    is_accepted = bundle.manifest.parity["verdict"] == "pass"
    if model != own:
        before = Before(_trace(own, feeds, progress), True, True, is_accepted)
    else:
        is_here = is_traced and _is_here(bundle)
        before = Before(recorded.own, is_here, is_traced, is_accepted)
    rows = judge_layers(recorded, now, bundle.manifest.precision, before)
    return Location(
        rows,
        first_outside(rows, now, before),
        largest_step(rows, now),
        recorded.feed,
        recorded.windows,
        _notes(bundle, recorded, before, is_traced),
    )


def _without_reference(recorded: Recorded, feed: Feed) -> Recorded:
    """For signals that the export did not trace: nothing is known but what runs beside."""
    windows = max(len(x) for x in feed.inputs.values())
    return replace(
        recorded,
        feed=feed.name,
        kind=feed.kind,
        windows=windows,
        reference={},
        float32_noise={},
    )


def _recorded(bundle: Bundle) -> Recorded:
    if bundle.manifest.mode == "stream":
        raise UsageError(
            f"{bundle.path} is a stream, whose layers are not kept: they hold one hop. Export "
            "the model for windows, without --mode stream, and locate the fault there."
        )
    if LAYERS_FILE not in bundle.files:
        raise BundleError(
            f"{bundle.path} keeps nothing of its layers (it lists no {LAYERS_FILE}): an "
            "earlier version wrote it, or its values are too large, or it cannot be run in "
            "pieces. Export the model again, for shorter windows if need be."
        )
    return layers_from_bytes(bundle.files[LAYERS_FILE])


def _signals(bundle: Bundle, recorded: Recorded, golden: Golden) -> dict[str, Array]:
    for feed in golden.feeds:
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
