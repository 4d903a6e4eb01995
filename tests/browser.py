"""A real browser, driven over its debugging pipe; no package is needed beside it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-background-networking", "--remote-debugging-pipe",
)  # fmt: skip


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Browser:
    """One page of a running browser.

    ``events`` holds what the page did: requests, console messages, exceptions.
    """

    def __init__(self, requests: int, answers: int) -> None:
        self._requests, self._answers = requests, answers
        self._number, self._session, self._rest = 0, "", b""
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self._note(answer)

    def open(self, path: Path, width: int, height: int, is_dark: bool) -> None:
        """Show a file at a width, as a phone does below 600, and wait until it is drawn."""
        size = {"width": width, "height": height, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", deviceScaleFactor=1, **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(name == "Page.loadEventFired" for name, _ in self.events):
            self._note(self._read())

    def ask(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    def picture(self) -> bytes:
        """The whole page as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def _note(self, answer: dict[str, Any]) -> None:
        if "method" in answer:
            self.events.append((answer["method"], answer.get("params", {})))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._answers, 65536)
            assert part, "the browser ended"
            self._rest += part
        raw, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(raw))


@contextlib.contextmanager
def browsing(program: str, profile: Path) -> Iterator[Browser]:
    """Start a browser; it reads requests from descriptor 3 and answers on 4."""
    theirs, ours = os.pipe()
    reading, answering = os.pipe()
    script = f'exec "$0" "$@" 3<&{theirs} 4>&{answering}'
    line = ["bash", "-c", script, program, *_FLAGS, f"--user-data-dir={profile}"]
    with subprocess.Popen(
        line,
        pass_fds=(theirs, answering),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(theirs)
        os.close(answering)
        try:
            yield Browser(ours, reading)
        finally:
            process.terminate()
            process.wait(timeout=20)
            os.close(ours)
            os.close(reading)
