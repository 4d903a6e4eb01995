"""An interrupted run goes on only with the data and the options that it began with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from tcn_export.errors import UsageError
from tcn_export.files import write_bytes
from tcn_export.source.safe_load import load_weights_only

STATE = "last"
_STATE_FILE = f"{STATE}.ckpt"
_ASKED_FILE = "run.json"


def begin(folder: Path, asked: Mapping[str, Any]) -> None:
    """Begin afresh: drop what an interrupted run left, and note what is asked of this one.

    Raises:
        OutputError: The folder cannot be written.
    """
    if is_main_process():
        shutil.rmtree(folder, ignore_errors=True)
        write_bytes(folder / _ASKED_FILE, json.dumps(asked, indent=2).encode())


def find(folder: Path, asked: Mapping[str, Any]) -> Path:
    """The state from which a run goes on.

    Args:
        folder: Of the interrupted run.
        asked: All that decides about the weights, in JSON types.

    Raises:
        UsageError: There is no such run, or it was asked for something else.
        CheckpointError: Its state is damaged.
    """
    state = folder / _STATE_FILE
    try:
        before = json.loads((folder / _ASKED_FILE).read_bytes())
        raw = state.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"there is no interrupted run to resume: {folder} holds none. Leave --resume out."
        ) from error
    if not isinstance(before, dict):
        before = {}
    changed = [key for key, value in asked.items() if before.get(key) != value]
    if changed:
        told = "; ".join(
            f"{key.replace('_', ' ')} was {before.get(key)}, now {asked[key]}"
            for key in changed
        )
        raise UsageError(
            f"the interrupted run in {folder} was another one: {told}. Give what was given "
            "then, or leave --resume out to begin afresh."
        )
    load_weights_only(state, raw)
    return state


def end(folder: Path) -> None:
    """Drop the state of a run whose checkpoint is written."""
    if is_main_process():
        shutil.rmtree(folder, ignore_errors=True)


def is_main_process() -> bool:
    """False in the helpers of a run on several devices."""
    return not getattr(rank_zero_only, "rank", 0)
