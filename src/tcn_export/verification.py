"""Verify a bundle again: on this machine, against its golden data, without PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tcn_export.bundle import Bundle, load_bundle
from tcn_export.errors import BundleError
from tcn_export.manifest import Manifest
from tcn_export.npz import load_dataset
from tcn_export.parity import windows as parity_windows
from tcn_export.parity.bounds import ALPHA
from tcn_export.parity.fit import check_class_names, check_fit
from tcn_export.parity.gate import Gate
from tcn_export.parity.golden import (
    GOLDEN_FILE,
    Feed,
    Golden,
    WindowAnswers,
    golden_from_bytes,
)
from tcn_export.parity.rows import (
    BOUNDS,
    ParityReport,
    Row,
    as_exported,
    baseline,
    judge_export,
    remaining,
)
from tcn_export.parity.scoring import Told, allow_undecided, tell
from tcn_export.parity.streaming import judge_interrupted
from tcn_export.progress import Progress, Silent
from tcn_export.targets.base import Runner


def verify(
    bundle: Bundle | Path | str,
    data: Path | str | None = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> ParityReport:
    """Run a bundle's model on its golden inputs, and on windows where given, and judge it.

    Args:
        bundle: What `load_bundle` read, or its path.
        data: An npz file of windows. The windows of the export are judged window by window,
            from the eager answers that the bundle kept; on others only form and score are
            reported.
        threads: Threads of the runtime; 0 takes all cores.
        progress: Told of every stage; None tells nobody.

    Raises:
        ExportError: The bundle or the data cannot be used.
    """
    progress = progress or Silent()
    bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    manifest = bundle.manifest
    golden = read_golden(bundle)
    gate = Gate(
        manifest.precision,
        manifest.signature,
        manifest.task == "classification",
        baseline(manifest.parity["rows"]),
    )
    runner = bundle.runner(threads)
    rows = [
        judge_export(manifest.parity),
        as_exported("class order", *_told(manifest.classes, golden.classes)),
    ]
    with progress.stage("Comparing with the golden data", len(golden.feeds)) as advance:
        rows += gate.judge_golden(golden, runner, advance)
    if manifest.mode == "stream":
        one, other = (bundle.stepper(threads) for _ in range(2))
        rows += judge_interrupted(golden, manifest.signature, one, other)
    told = Told()
    if data is not None:
        more, told = _judge_data(bundle, gate, golden, runner, Path(data), progress)
        rows += more
    return ParityReport(
        tuple(rows),
        remaining(manifest.waived),
        oracle=manifest.parity["oracle"],
        scores=told.scores,
        loss=told.loss,
    )


def _judge_data(
    bundle: Bundle, gate: Gate, golden: Golden, runner: Runner, path: Path, progress: Progress
) -> tuple[list[Row], Told]:
    manifest, told = bundle.manifest, Told()
    dataset = load_dataset(path)
    windows = dataset.parity
    check_class_names(dataset.class_names, manifest.classes, str(path))
    check_fit(windows, manifest.judged, manifest.task, manifest.classes, str(path))
    if manifest.mode == "stream":
        signature, unreached = manifest.signature, (manifest.stream or {}).get("unreached", 0)
        windows = windows.for_stream(signature.hop, signature.outputs[0], unreached)
    name, output = gate.signature.inputs[0].name, gate.signature.outputs[0].name
    with progress.stage(f"Comparing on {path.name}", len(windows)) as advance:
        batches = parity_windows.run_batches(runner, name, windows.x, advance)
        answers = (outputs[output] for outputs in batches)
        actual = parity_windows.answer(windows, answers, gate.is_classification)
    rows = [gate.form(parity_windows.FEED, output, actual.fault)]
    judged_on = manifest.parity.get("data") or {}
    same = judged_on.get("sha256") == windows.digest()
    if actual.fault is None and same and golden.windows is not None:
        _check_answers(bundle, golden.windows, actual)
        limits = _limits(manifest)
        more = parity_windows.judge_answers(
            gate, output, windows, actual, golden.windows, limits
        )
        told = tell(windows, golden.windows, actual, manifest.classes, limits)
        exported = manifest.parity["rows"]
        if any(row["status"] == "waived" and row["metric"] in BOUNDS for row in exported):
            more, _ = allow_undecided(more, told)
        rows += more
    elif actual.fault is None:
        rows += parity_windows.report_score(output, windows, actual)
    return rows, told


def _limits(manifest: Manifest) -> parity_windows.Limits:
    """Those of the export, which may have judged several candidates on the windows."""
    loss = manifest.parity["loss"]
    confidence = 1 - ALPHA if loss is None else loss["confidence"]
    if not 1 - ALPHA - 1e-9 <= confidence < 1:
        raise BundleError(
            f"the manifest gives its bound a confidence of {confidence}; expected "
            f"{1 - ALPHA:g} to 1. It was altered; export the model again."
        )
    looks = round(ALPHA / (1 - confidence))
    return parity_windows.Limits(float(manifest.parity["max_drop"]), ALPHA / looks)


def _check_answers(bundle: Bundle, kept: WindowAnswers, actual: WindowAnswers) -> None:
    """Raise `BundleError` unless the eager answers belong to these windows."""
    for error in (kept.squared_error, kept.absolute_error):
        if error is not None and not (np.isfinite(error) & (error >= 0)).all():
            raise BundleError(
                f"{GOLDEN_FILE} of {bundle.path} keeps errors of windows that are no numbers, "
                "or negative. It was altered; export the model again."
            )
    for one, other, is_later in (
        (kept.answers, actual.answers, False),
        (kept.squared_error, actual.squared_error, False),
        (kept.absolute_error, actual.absolute_error, True),
    ):
        if one is None and is_later:
            continue
        if (one is None) != (other is None) or (
            one is not None and other is not None and one.shape != other.shape
        ):
            raise BundleError(
                f"{GOLDEN_FILE} of {bundle.path} keeps answers on other windows than those of "
                "the export. It was altered; export the model again."
            )


def read_golden(bundle: Bundle) -> Golden:
    """The golden data of a bundle.

    Raises:
        BundleError: There is none, or it is damaged or belongs to another model.
    """
    if GOLDEN_FILE not in bundle.files:
        raise BundleError(f"{bundle.path} lists no {GOLDEN_FILE}, so there is nothing to run.")
    golden = golden_from_bytes(bundle.files[GOLDEN_FILE])
    if not golden.feeds:
        raise BundleError(f"{GOLDEN_FILE} of {bundle.path} is empty. Export the model again.")
    for feed in golden.feeds:
        _check_shapes(bundle, golden, feed)
    return golden


def _check_shapes(bundle: Bundle, golden: Golden, feed: Feed) -> None:
    """Raise `BundleError` where golden data and signature disagree on an output's shape."""
    reference = golden.references[feed.name].float64
    for spec in bundle.manifest.judged.outputs:
        if spec.name in reference and not spec.accepts(reference[spec.name].shape):
            raise BundleError(
                f"the manifest of {bundle.path} gives `{spec.name}` the shape {spec.shape}, "
                f"but {GOLDEN_FILE} holds {reference[spec.name].shape}. It was altered; "
                "export the model again."
            )


def _told(names: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[str, str]:
    """Both sides in words; one word where they are equal."""
    if names == wanted:
        return "as exported", "as exported"
    return ", ".join(names) or "none", ", ".join(wanted) or "none"
