"""Tells the outside of every epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch.callbacks import Callback

from tcn_export.progress import Advance


class Watch(Callback):
    """Advances a stage by one per epoch and, where asked, tells the losses.

    Args:
        advance: Of the stage whose units are epochs.
        tell: Gets one line per epoch.
    """

    def __init__(self, advance: Advance, tell: Callable[[str], None]) -> None:
        self.advance = advance
        self.tell = tell

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Called by Lightning when an epoch, its validation included, is over."""
        del pl_module
        self.advance()
        losses = ", ".join(
            f"{name.replace('_', ' ')} {float(value):.4f}"
            for name, value in sorted(trainer.callback_metrics.items())
        )
        self.tell(f"epoch {trainer.current_epoch + 1}: {losses}")
