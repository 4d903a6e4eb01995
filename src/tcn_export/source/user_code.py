"""The border to the user's own code: the one place where any exception of it is caught.

Whatever a factory or its network raises is the user's to mend, so it becomes an error that
says what was raised, and in which line of whose file. Nothing of ours runs inside the border.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tcn_export.errors import ExportError, FactoryError

FACTORY_SEED = 0
"""Seeds what a factory leaves to chance, so that two exports hold the same weights."""
_LONGEST_REASON = 300


def make_module(factory: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Import a factory and call it.

    Args:
        factory: ``MODULE:NAME``. The module is looked for as ``python -m`` does, the current
            folder first.
        arguments: Keyword arguments of the call.

    Raises:
        FactoryError: It cannot be imported, does not exist, cannot be called so, raises, or
            makes something else than a module.
    """
    name, _, path = factory.partition(":")
    with _current_folder_first():
        function = _find(factory, name, path)
        _check_call(factory, function, arguments)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(FACTORY_SEED)
            with border(f"calling `{factory}`"):
                module = function(**arguments)
    if not isinstance(module, nn.Module):
        raise FactoryError(
            f"`{factory}` returned a {type(module).__name__}; expected a torch.nn.Module. "
            "Return the network itself."
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise FactoryError(
            f"`{factory}` returned a TorchScript module, which PyTorch's exporter cannot "
            "trace. Return the eager module that was scripted."
        )
    return module


@contextlib.contextmanager
def border(
    doing: str, advice: str = "", error: type[ExportError] = FactoryError
) -> Iterator[None]:
    """Turn whatever the user's code raises into one of ours; its prints go to stderr.

    Args:
        doing: What was asked of it, as the subject of the error.
        advice: What to do, where more can be said than to mend it.
        error: What is raised instead.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except ExportError:
        raise  # a network from a file is refused in our words
    except (Exception, SystemExit) as raised:  # it is not our code
        reason = " ".join(str(raised).split())
        if len(reason) > _LONGEST_REASON:
            reason = f"{reason[:_LONGEST_REASON]} ..."
        raise error(
            f"{doing} raised {type(raised).__name__}{f': {reason}' if reason else ''}"
            f"{_place(raised)}. {advice or 'Mend it there.'}"
        ) from raised


@contextlib.contextmanager
def _current_folder_first() -> Iterator[None]:
    folder = os.getcwd()
    sys.path.insert(0, folder)
    importlib.invalidate_caches()  # the file may be younger than the last look at its folder
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _find(factory: str, name: str, path: str) -> Callable[..., Any]:
    found: Any = None
    with border(f"importing `{name}`"):
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # a package that the user's module wants itself
    if found is None:
        raise FactoryError(
            f"there is no module `{name}` for the factory `{factory}`, neither in "
            f"{os.getcwd()} nor on PYTHONPATH. Start the command in the folder that holds "
            f"{name.split('.', 1)[0]}.py, or add that folder to PYTHONPATH."
        )
    where = getattr(found, "__file__", None) or name
    for part in path.split("."):
        if not hasattr(found, part):
            own = [n for n, v in vars(found).items() if callable(v) and not n.startswith("_")]
            near = difflib.get_close_matches(part, own, n=3) or own[:8]
            raise FactoryError(
                f"{where} has no `{path}`, which the factory `{factory}` asks for. It holds "
                f"{', '.join(near) or 'nothing that can be called'}."
            )
        found = getattr(found, part)
    if isinstance(found, nn.Module):
        raise FactoryError(
            f"`{factory}` is a network, not a factory that makes one. Write a function that "
            f"returns it, and give its name: `def make(): return {path}`."
        )
    if not callable(found):
        raise FactoryError(
            f"`{factory}` is a {type(found).__name__}, which cannot be called; expected a "
            "function or class that makes the network."
        )
    function: Callable[..., Any] = found
    return function


def _check_call(
    factory: str, function: Callable[..., Any], arguments: Mapping[str, Any]
) -> None:
    try:
        parameters = inspect.signature(function)
    except ValueError:  # written in C, and silent about its parameters
        return
    try:
        parameters.bind(**arguments)
    except TypeError as error:
        given = ", ".join(arguments) or "none"
        raise FactoryError(
            f"`{factory}` cannot be called with the given arguments ({given}): {error}. It "
            f"takes {parameters}; give them as --factory-args '{{\"name\": value}}'."
        ) from error


def _place(error: BaseException) -> str:
    """Where the user's code raised: the innermost line that is not ours or a library's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    paths = sysconfig.get_paths()
    ours = Path(__file__).resolve().parents[1]
    libraries = (paths["stdlib"], paths["purelib"], paths["platlib"], str(ours), "<")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(libraries)
    ]
    if not frames:
        return ""
    return f" ({frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name})"
