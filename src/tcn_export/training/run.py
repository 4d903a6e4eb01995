"""One training run: data, network, fit, scores, checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tcn_export import machine
from tcn_export.data import Dataset, Windows, check_labels
from tcn_export.files import check_free, check_writable
from tcn_export.models import build, describe
from tcn_export.progress import Progress
from tcn_export.scores import ClassificationScores, classification_scores, mean_squared_error
from tcn_export.source.checkpoint import Checkpoint, save_checkpoint
from tcn_export.training.configure import NetworkOptions, Problem, configure, pose
from tcn_export.training.datasets import split_validation
from tcn_export.training.fit import FitOptions, Fitted, fit, predict
from tcn_export.training.interrupted import begin, end, find


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What was written, and how good it is.

    Attributes:
        path: The checkpoint.
        parameters: Trained values.
        epochs: Passes over the training windows.
        best_epoch: The one whose weights were kept.
        scored_on: ``test``, or what there was instead: ``validation`` or ``training``.
        score: Of a classifier; or the mean squared error of a regression.
        is_main_process: False in the helpers of a run on several devices, which write nothing.
    """

    path: Path
    parameters: int
    epochs: int
    best_epoch: int
    scored_on: str
    score: ClassificationScores | float
    is_main_process: bool

    def to_json(self) -> dict[str, Any]:
        """All of it, in JSON types."""
        return {
            "path": str(self.path),
            "parameters": self.parameters,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "scored_on": self.scored_on,
            **_score_to_json(self.score),
        }


def train(
    dataset: Dataset,
    network: NetworkOptions,
    options: FitOptions,
    validation: float,
    out: Path,
    overwrite: bool,
    progress: Progress,
    tell: Callable[[str], None],
) -> TrainingResult:
    """Train a network and write its checkpoint.

    Args:
        dataset: Training windows with labels, and test windows for the final score.
        network: What to train.
        options: How to train it.
        validation: Share of the training windows that chooses the best epoch; 0 for none.
        out: The checkpoint file.
        overwrite: Replace an existing file.
        progress: Told of every epoch.
        tell: Gets one line per epoch.

    Raises:
        ExportError: What its subclasses say.
    """
    check_free(out, overwrite)
    check_writable(out.parent)
    problem = pose(dataset, network.head)
    for windows in filter(None, (dataset.train, dataset.test)):
        check_labels(windows, problem.outputs, dataset.name)
    architecture, config = describe(configure(problem, network))
    assert dataset.train is not None
    learn, check = (
        split_validation(dataset.train, validation, options.seed)
        if validation
        else (dataset.train, None)
    )
    folder = out.with_name(out.name + ".run")
    asked = {
        "folder": str(folder.resolve()),  # Lightning forgets the best epoch of a moved one
        "architecture": architecture,
        "config": config,
        "data_sha256": dataset.train.digest(),
        "validation": validation,
        "options": _deciding(options),
    }
    if not options.resume:
        begin(folder, asked)
    resume_from = find(folder, asked) if options.resume else None
    fitted = fit(
        lambda: build(architecture, config),
        learn,
        check,
        options,
        folder,
        resume_from,
        progress,
        tell,
    )
    parts = {"test": dataset.test, "validation": check, "training": learn}
    scored_on, scored = next(
        (k, w) for k, w in parts.items() if w is not None and w.y is not None
    )
    score = _score(fitted, scored, problem)
    checkpoint = Checkpoint(
        architecture=architecture,
        config=config,
        state_dict=fitted.module.state_dict(),
        channels=problem.channels,
        length=problem.length,
        task=problem.task,
        classes=problem.classes,
        sample_rate_hz=dataset.sample_rate_hz,
        training=_record(dataset, options, validation, fitted, scored_on, score),
    )
    if fitted.is_main_process:
        save_checkpoint(out, checkpoint)
        end(folder)
    parameters = sum(p.numel() for p in fitted.module.parameters())
    return TrainingResult(
        out,
        parameters,
        fitted.epochs,
        fitted.best_epoch,
        scored_on,
        score,
        fitted.is_main_process,
    )


def _score(fitted: Fitted, windows: Windows, problem: Problem) -> ClassificationScores | float:
    output = predict(fitted.module, windows.x)
    assert windows.y is not None
    if problem.task == "regression":
        return mean_squared_error(windows.y, output)
    return classification_scores(windows.y, output.argmax(axis=1), problem.classes)


def _score_to_json(score: ClassificationScores | float) -> dict[str, Any]:
    return {"mse": score} if isinstance(score, float) else score.to_json()


def _deciding(options: FitOptions) -> dict[str, Any]:
    """The options that decide about the weights."""
    chosen = asdict(options)
    del chosen["resume"], chosen["devices"], chosen["nodes"]
    return chosen


def _record(
    dataset: Dataset,
    options: FitOptions,
    validation: float,
    fitted: Fitted,
    scored_on: str,
    score: ClassificationScores | float,
) -> dict[str, Any]:
    """How the network was trained; no times, so that the same run gives the same bytes."""
    assert dataset.train is not None
    return {
        "data": dataset.name,
        "data_sha256": dataset.train.digest(),
        "windows": len(dataset.train),
        "validation": validation,
        "options": _deciding(options),
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "best_loss": fitted.best_loss,
        "scored_on": scored_on,
        **_score_to_json(score),
        "tools": machine.tools(),
    }
