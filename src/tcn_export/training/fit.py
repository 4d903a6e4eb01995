"""Fit a network to windows with Lightning, and score it.

The same seed on the same machine gives the same weights, also when a run was interrupted and
resumed: the order of the windows and what is dropped depend on seed, epoch and step only.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from tcn_export.data import Windows
from tcn_export.errors import ExportError, OutputError
from tcn_export.progress import Progress, Silent
from tcn_export.quiet import quiet
from tcn_export.training.interrupted import STATE, is_main_process
from tcn_export.training.loading import Batch, loader
from tcn_export.training.watch import Watch

_LOSS = "validation_loss"
ClassWeights = Literal["none", "sqrt", "balanced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """How to fit.

    Attributes:
        epochs: At most so many passes over the training windows.
        batch: Windows per step, on every device.
        learning_rate: Peak of the one-cycle schedule (Smith and Topin 2017, arXiv:1708.07120).
        weight_decay: Of AdamW.
        patience: Epochs without a lower validation loss before stopping.
        class_weights: Weigh classes equally (``balanced``), by the root of that, or not.
        seed: Of weights, order and dropout.
        devices: Devices per machine: a number or ``auto``.
        nodes: Machines.
        resume: Continue the run that was interrupted.
    """

    epochs: int = 40
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    patience: int = 12
    class_weights: ClassWeights = "none"
    seed: int = 0
    devices: int | Literal["auto"] = "auto"
    nodes: int = 1
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a run ended with."""

    module: nn.Module
    epochs: int
    best_epoch: int
    best_loss: float | None
    is_main_process: bool


def fit(
    build: Callable[[], nn.Module],
    train: Windows,
    validation: Windows | None,
    options: FitOptions,
    folder: Path,
    resume_from: Path | None,
    progress: Progress,
    tell: Callable[[str], None],
) -> Fitted:
    """Fit a network.

    Args:
        build: Makes the network, with its initial weights, under the seed.
        train: Windows with labels or targets.
        validation: Chooses the best epoch and when to stop; None keeps the last epoch.
        options: How.
        folder: Keeps the state of the run.
        resume_from: The state of an interrupted run to go on from.
        progress: Told of every epoch.
        tell: Gets one line per epoch.

    Raises:
        ExportError: The loss is no longer finite.
    """
    if not is_main_process():
        progress = Silent()  # one process tells of the epochs, not all
    lightning.seed_everything(options.seed, verbose=False)
    learner = _Learner(build(), train, options)
    learner.fit_input(train)
    last = ModelCheckpoint(folder, STATE, enable_version_counter=False)
    callbacks: list[Callback] = [last]
    keeper = last
    if validation is not None:
        keeper = ModelCheckpoint(folder, "best", _LOSS, enable_version_counter=False)
        # Written before the last state, which holds what is known of the best.
        callbacks = [keeper, last, EarlyStopping(_LOSS, patience=options.patience)]
    with _quiet(), progress.stage("Training, epochs", options.epochs) as advance:
        trainer = lightning.Trainer(
            max_epochs=options.epochs,
            accelerator="auto",
            devices=options.devices,
            num_nodes=options.nodes,
            deterministic=True,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            gradient_clip_val=1.0,
            callbacks=[*callbacks, Watch(advance, tell)],
        )
        check = (
            None if validation is None else loader(validation, 4 * options.batch, seed=None)
        )
        _run(
            trainer,
            learner,
            loader(train, options.batch, seed=options.seed),
            check,
            resume_from,
        )
    best = torch.load(keeper.best_model_path, map_location="cpu", weights_only=True)
    learner.load_state_dict(best["state_dict"])
    loss = None if keeper.best_model_score is None else float(keeper.best_model_score)
    fitted = Fitted(
        learner.finished(),
        trainer.current_epoch,
        int(best["epoch"]) + 1,
        loss,
        trainer.is_global_zero,
    )
    trainer.strategy.barrier()
    return fitted


def _run(
    trainer: lightning.Trainer,
    learner: lightning.LightningModule,
    train: DataLoader[Batch],
    validation: DataLoader[Batch] | None,
    resume_from: Path | None,
) -> None:
    try:
        trainer.fit(learner, train, validation, ckpt_path=resume_from, weights_only=True)
    except SystemExit as stop:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt("Go on with --resume.") from stop
    except OSError as error:
        raise OutputError(
            f"the state of the run cannot be written: {error.strerror}. Make room, or name "
            "another --out."
        ) from error


def predict(
    module: nn.Module, x: NDArray[np.float32], batch: int = 512
) -> NDArray[np.float32]:
    """Outputs of a network in eval mode for many windows."""
    module = module.eval().cpu()
    with torch.inference_mode():
        parts = [module(torch.from_numpy(x[i : i + batch])) for i in range(0, len(x), batch)]
    return torch.cat(parts).numpy()


class _Learner(lightning.LightningModule):
    """A network with its loss, its optimiser and, in a regression, the targets' scale."""

    weights: Tensor
    center: Tensor
    spread: Tensor

    def __init__(self, module: nn.Module, train: Windows, options: FitOptions) -> None:
        super().__init__()
        assert train.y is not None
        self.module = module
        self.options = options
        self.is_classification = train.is_classification
        if self.is_classification:
            self.register_buffer(
                "weights", _class_weights(module, train.y, options.class_weights)
            )
        else:
            y = torch.from_numpy(train.y).double()
            deviation = y.std(dim=0, correction=0)
            self.register_buffer("center", y.mean(dim=0).float())
            self.register_buffer("spread", torch.where(deviation > 0, deviation, 1.0).float())

    def fit_input(self, train: Windows) -> None:
        """Fit the input normalisation to the training windows."""
        normalize: Any = self.module.get_submodule("normalize")
        normalize.fit(torch.from_numpy(train.x))

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy of the classes, or squared error in deviations of the targets."""
        x, y = batch
        output: Tensor = self.module(x)
        if self.is_classification:
            return functional.cross_entropy(output, y, weight=self.weights)
        return functional.mse_loss(output, (y - self.center) / self.spread)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout by the step: how often a loader drew before depends on the process."""
        del batch, batch_idx
        step = 64 * self.trainer.global_step + self.trainer.global_rank
        torch.manual_seed(1_000_003 * self.options.seed + step)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of one batch."""
        loss = self.loss(batch)
        if not torch.isfinite(loss):
            raise ExportError(
                f"the training diverged in epoch {self.current_epoch + 1}: the loss is "
                f"{loss}. Train again with a smaller --learning-rate."
            )
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Note the loss of one batch."""
        self.log(_LOSS, self.loss(batch), batch_size=len(batch[0]), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW under a one-cycle schedule."""
        options = self.options
        optimizer = torch.optim.AdamW(
            self.module.parameters(),
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, options.learning_rate, int(self.trainer.estimated_stepping_batches)
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def finished(self) -> nn.Module:
        """The network, answering in the units of its targets.

        Raises:
            ExportError: A weight is not finite.
        """
        if not all(bool(torch.isfinite(p).all()) for p in self.module.parameters()):
            raise ExportError(
                "the training diverged: weights are NaN or infinite. Train again with a "
                "smaller --learning-rate."
            )
        if not self.is_classification:
            head: Any = self.module.get_submodule("head")
            with torch.no_grad():
                head.weight.mul_(self.spread[:, None])
                head.bias.mul_(self.spread).add_(self.center)
        return self.module.eval().cpu()


def _class_weights(module: nn.Module, y: NDArray[np.int64], how: ClassWeights) -> Tensor:
    head: Any = module.get_submodule("head")
    classes = head.weight.shape[0]
    counts = np.bincount(y.ravel(), minlength=classes)
    power = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}[how]
    weights = (counts.sum() / (classes * np.maximum(counts, 1))) ** power
    return torch.tensor(weights, dtype=torch.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's tips and its remarks on data loaders from the user."""
    loggers = ("lightning.pytorch", "lightning.fabric")
    with quiet(*loggers, level=logging.ERROR), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
