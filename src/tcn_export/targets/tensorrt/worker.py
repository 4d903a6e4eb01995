"""The build in a process of its own: a crash of NVIDIA's code is an error message here.

The parent sends a `BuildRequest` as JSON to the child's stdin; the child answers with one JSON
object per line: shares of the build that are done, and the result at last. The plan goes
through a file.

Part of ``build_engine.py``: Python 3.8, standard library only.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from typing import IO, Any

from tcn_export.errors import TargetUnavailableError
from tcn_export.targets.tensorrt.builder import BuildError, Built, Convolution, build_plan
from tcn_export.targets.tensorrt.request import BuildRequest

WORKER_FLAG = "--worker"
_TAIL_LINES = 5


def build_in_child(request: BuildRequest, report: Callable[[float], None]) -> Built:
    """Build in a child process.

    Raises:
        BuildError: NVIDIA's parser or builder refused the model, or crashed.
        TargetUnavailableError: The library cannot be used on this machine.
    """
    with tempfile.TemporaryDirectory(prefix="tcn-export-") as folder:
        plan, words = os.path.join(folder, "plan"), os.path.join(folder, "words")
        with open(words, "wb") as stderr:
            child = subprocess.Popen(
                _command(plan),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
            with child:
                try:
                    answer = _converse(child, request, report)
                except BaseException:  # an interrupt too leaves no builder behind
                    child.kill()
                    raise
        if answer is None:
            end, last = _end(child.returncode), _last_lines(words)
            raise BuildError(f"the builder {end}; its last words: {last or 'none'}")
        if "unavailable" in answer:
            raise TargetUnavailableError(str(answer["unavailable"]))
        if "error" in answer:
            raise BuildError(str(answer["error"]))
        convolutions = [Convolution(**entry) for entry in answer.pop("convolutions")]
        with open(plan, "rb") as file:
            return Built(file.read(), convolutions=convolutions, **answer)


def _converse(
    child: Any, request: BuildRequest, report: Callable[[float], None]
) -> dict[str, Any] | None:
    """The last answer of a child; None where it ended without one."""
    try:
        json.dump(asdict(request), child.stdin)
        child.stdin.close()
    except BrokenPipeError:  # it ended before it read; why shows below
        pass
    for line in child.stdout:
        answer: dict[str, Any] = json.loads(line)
        if "done" not in answer:
            return answer
        report(answer["done"])
    return None


def _command(plan: str) -> list[str]:
    """The worker as a program: this module, or the script that it was made part of."""
    module = [__file__] if __spec__ is None else ["-m", __spec__.name]
    return [sys.executable, *module, WORKER_FLAG, plan]


def _last_lines(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return " | ".join(file.read().strip().splitlines()[-_TAIL_LINES:])


def _end(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"crashed ({signal.Signals(-code).name})"
    except ValueError:
        return f"crashed (signal {-code})"


def work(plan: str) -> None:
    """The child: read the request, build, write the plan, answer."""
    # NVIDIA's code prints to stdout, where the answers go.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = BuildRequest(**json.load(sys.stdin))
    _answer(answers, _build(request, plan, lambda done: _answer(answers, {"done": done})))


def _build(
    request: BuildRequest, plan: str, report: Callable[[float], None]
) -> dict[str, Any]:
    try:
        trt = importlib.import_module(request.runtime)
    except ImportError as error:
        return {"unavailable": f"{request.runtime} cannot be imported: {error}"}
    try:
        built = build_plan(trt, request, report)
    except BuildError as error:
        return {"error": str(error)}
    except TargetUnavailableError as error:
        return {"unavailable": str(error)}
    with open(plan, "wb") as file:
        file.write(built.plan)
    answer = asdict(built)
    del answer["plan"]
    return answer


def _answer(answers: IO[str], content: dict[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


if __name__ == "__main__":
    work(sys.argv[sys.argv.index(WORKER_FLAG) + 1])
