"""A state dict in a file of its own, loaded into the network that a factory made.

Training scripts wrap it: in a checkpoint beside the optimiser's state, and behind the prefixes
of DataParallel, of ``torch.compile`` or of a training module. All of that is looked through;
what does not fit then is named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tcn_export.errors import CheckpointError
from tcn_export.source.safe_load import (
    WRAPPERS,
    Wanted,
    find_state_dict,
    is_dense,
    load_weights_only,
    read_file,
)
from tcn_export.source.user_code import border

SAFETENSORS = ".safetensors"
_COMPILED = "_orig_mod."
_MOST_PREFIXES = 3
_SHOWN = 3
_STATE_DICT = Wanted(
    'a state dict: torch.save(model.state_dict(), "weights.pt")', "save it again"
)


def load_weights(path: Path, module: nn.Module, factory: str) -> str:
    """Load a state dict into a module, every key of it and nothing else.

    Args:
        path: A file of torch.save or of safetensors.
        module: Gets the weights, in the precision of its own.
        factory: What made the module, for messages.

    Returns:
        The sha256 of the file.

    Raises:
        CheckpointError: The file cannot be read, holds no state dict, or that of another
            network. Nothing in it was executed.
        FactoryError: The network refuses to load it.
    """
    raw = read_file(path)
    state = _read(path, raw)
    for name, value in state.items():
        if isinstance(value, Tensor) and not is_dense(value):
            raise CheckpointError(f"`{name}` in {path} is not a dense, contiguous tensor.")
    expected = module.state_dict()
    state = _without_prefixes(state, expected)
    wrong = [_difference(k, state[k], v) for k, v in expected.items() if k in state]
    wrong = [difference for difference in wrong if difference]
    if wrong:
        raise CheckpointError(_mismatch(path, factory, {"of another shape": wrong}))
    with border(f"loading {path} into the network of `{factory}`"), torch.no_grad():
        missing, surplus = module.load_state_dict(state, strict=False)
    if missing or surplus:
        names = {"missing": list(missing), "not expected": list(surplus)}
        raise CheckpointError(_mismatch(path, factory, names))
    return hashlib.sha256(raw).hexdigest()


def _read(path: Path, raw: bytes) -> dict[str, Any]:
    if path.suffix.lower() == SAFETENSORS:
        try:
            return dict(load_safetensors(raw))
        except (SafetensorError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{path} is not a safetensors file, or is damaged: {error}. Copy it again."
            ) from error
    content = load_weights_only(path, raw, _STATE_DICT)
    state = find_state_dict(content)
    if state is None:
        held = ", ".join(f"`{str(key)[:40]}`" for key in list(content)[:8]) or "nothing"
        raise CheckpointError(
            f"{path} holds {held}, and no state dict among that. Expected tensors by name, or "
            f"those under {', '.join(f'`{name}`' for name in WRAPPERS)}. Save them alone: "
            'torch.save(model.state_dict(), "weights.pt").'
        )
    return state


def _without_prefixes(state: dict[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict under the names that fit best: its own, or without what wraps them."""
    candidates = [state, {name.replace(_COMPILED, ""): v for name, v in state.items()}]
    for _ in range(_MOST_PREFIXES):
        inner = candidates[-1]
        fronts = {name.partition(".")[0] for name in inner}
        if len(fronts) != 1 or not all("." in name for name in inner):
            break
        candidates.append({name.partition(".")[2]: value for name, value in inner.items()})
    return max(candidates, key=lambda names: len(names.keys() & expected.keys()))


def _difference(name: str, found: object, want: object) -> str:
    """How a tensor differs from what the network has under its name; "" where it does not."""
    if not isinstance(found, Tensor) or not isinstance(want, Tensor) or is_lazy(want):
        return ""
    if found.is_floating_point() != want.is_floating_point():
        return f"`{name}` is {found.dtype}, expected {want.dtype}"
    if found.shape != want.shape:
        return f"`{name}` is {tuple(found.shape)}, expected {tuple(want.shape)}"
    return ""


def _mismatch(path: Path, factory: str, names: Mapping[str, list[str]]) -> str:
    told = "; ".join(
        f"{len(some)} {what} ({', '.join(some[:_SHOWN])}"
        f"{f', and {len(some) - _SHOWN} more' if len(some) > _SHOWN else ''})"
        for what, some in names.items()
        if some
    )
    return (
        f"the weights in {path} are not those of the network that `{factory}` makes: {told}. "
        'Call the factory as it was called for the training: --factory-args \'{"name": '
        "value}'."
    )
