"""Debian's chromium without a window, asked over a pipe in its own protocol (DevTools, --remote-debugging-pipe).

Owns the process: it is bounded in time, and ended by its id. Is given files. It runs in the network namespace of the
test's process, so that no request can leave; what a page asks for is told all the same. It has a PID namespace of its
own, so that what it has started ends with it: its crash handler leaves session and parent.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ALONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
DEADLINE_S = 60.0  # seconds for one answer: the machine may be busy
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-breakpad", "--disable-crash-reporter", "--disable-background-networking", "--no-zygote",
    "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """One browser with one page."""

    def __init__(self, questions: int, answers: int) -> None:
        self._questions, self._answers = questions, answers
        self._numbers, self._rest, self._session = itertools.count(1), b"", ""
        self._events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """The result of one command. AssertionError if the browser refuses, or says nothing for long."""
        number = next(self._numbers)
        about = {"sessionId": self._session} if self._session else {}
        question = {"id": number, "method": method, "params": parameters, **about}
        os.write(self._questions, json.dumps(question).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self._events.append(message)

    def _read(self) -> dict[str, Any]:
        until = time.monotonic() + DEADLINE_S
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser doesn't answer"
            got = os.read(self._answers, 1 << 20)
            assert got, "the browser has ended"
            self._rest += got
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def open(self, path: Path, width: int = 1280, height: int = 900, *, dark: bool = False, media: str = "") -> None:
        """Show a file in a window of that size (CSS pixels), as the system's colours or the printer ask for."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        colours = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[colours])
        self._events.clear()
        self.ask("Page.navigate", url=path.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self._events):
            self._events.append(self._read())

    def value(self, expression: str) -> Any:  # noqa: ANN401  # whatever the page has
        """What a JavaScript expression is on the page."""
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def requests(self) -> list[str]:
        """The addresses of all that was asked for since the page was opened, itself included."""
        self.value("0")  # what was told before that has come
        sent = (event for event in self._events if event.get("method") == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]

    def complaints(self) -> list[str]:
        """What the browser's console says about the page."""
        said = (event for event in self._events if event.get("method") == "Log.entryAdded")
        return [event["params"]["entry"]["text"] for event in said]

    def readable(self) -> list[tuple[str, str]]:
        """(role, name) of all that a screen reader is told, in order."""
        nodes = self.ask("Accessibility.getFullAXTree")["nodes"]
        return [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]

    def picture(self, path: Path) -> None:
        """The window as PNG."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser that ends with the block, and whose files are in that folder."""
    (child_reads, writes), (reads, child_writes) = os.pipe(), os.pipe()
    # the protocol's pipes are descriptors 3 and 4 (dash can't name those above 9)
    command = f'chromium "$@" 3<&{child_reads} 4>&{child_writes}; exit'  # the shell is the namespace's first process
    process = subprocess.Popen(
        [*ALONE, "bash", "-c", command, "bash", *FLAGS, f"--user-data-dir={folder}", "about:blank"],
        pass_fds=(child_reads, child_writes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder), "DBUS_SESSION_BUS_ADDRESS": "disabled:"},
    )
    os.close(child_reads)
    os.close(child_writes)
    try:
        yield Browser(writes, reads)
    finally:
        os.close(writes)  # which ends it; so does the end of this process, however it comes
        os.close(reads)
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    process.kill()
    process.wait(10)
