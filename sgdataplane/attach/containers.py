"""The process of a container, and which containers start, as their runtime says.

Owns the questions to podman and docker, the one place where the product runs another program: it is the user's own tool
that knows their containers. What it says is the word of others. Must not know namespaces.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from sgdataplane.attach.registry import refuse
from sgdataplane.errors import HostError

RUNTIMES = ("podman", "docker")
ANSWER_S = 30.0
WANTED = ("type=container", "event=init", "event=start")  # podman tells of the first one before anything runs in it
FORMATS = {"podman": "{{.Name}} {{.ID}}", "docker": "{{.Actor.Attributes.name}} {{.ID}}"}
STARTED = re.compile(rb"([A-Za-z0-9][A-Za-z0-9_.-]{0,254}) ([0-9a-f]{64})\n")
MAX_LINE = 1024
MIN_ID = 12  # of an id's digits, as runtimes show it


def pid_of(container: str) -> int:
    """The first process of a running container. BindingError if no runtime knows it, or several run one, or none
    does."""
    where = f"container {container}"
    runtimes = [name for name in RUNTIMES if is_installed(name)]
    if not runtimes:
        code, message = "InvalidContainer.NoRuntime", "there is no container runtime that could be asked"
        refuse(where, code, message, container, f"{' or '.join(RUNTIMES)} on PATH; or use --pid")
    answers = {name: _ask(name, container) for name in runtimes}
    pids = {int(text) for code, text in answers.values() if code == 0 and text.isascii() and text.isdigit()}
    if not pids:
        words = "; ".join(f"{name} says: {text or 'nothing'}" for name, (_, text) in answers.items())
        refuse(where, "InvalidContainer.NotFound", words, container, "the name or id of a running container")
    running = pids - {0}
    if len(running) > 1:
        message = f"{' and '.join(runtimes)} run one of that name each"
        refuse(where, "InvalidContainer.Ambiguous", message, container, "an id, or --pid")
    if not running:
        message = "the container is not running, so it has no namespace"
        refuse(where, "InvalidContainer.NotRunning", message, container, "a container that has been started")
    return running.pop()


def is_installed(runtime: str) -> bool:
    return shutil.which(runtime) is not None


@dataclass(frozen=True, slots=True)
class Started:
    """A container that has started, or is about to."""

    name: str
    identifier: str

    def is_called(self, container: str) -> bool:
        """Whether that is its name or id, or the id's beginning."""
        return container == self.name or (len(container) >= MIN_ID and self.identifier.startswith(container))


class Events:
    """The containers that start from `since` on (seconds of the clock), until the runtime ends. OSError."""

    def __init__(self, runtime: str, since: float) -> None:
        filters = [part for wanted in WANTED for part in ("--filter", wanted)]
        command = [runtime, "events", "--since", str(int(since)), *filters, "--format", FORMATS[runtime]]
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=null, stdout=subprocess.PIPE, stderr=null)

    def __iter__(self) -> Iterator[Started]:
        """What is no such line is left out."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(MAX_LINE):
            match = STARTED.fullmatch(line)
            if match is not None:
                yield Started(*(part.decode("ascii") for part in match.groups()))

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Once nobody reads any more."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _ask(runtime: str, container: str) -> tuple[int, str]:
    """Exit code, and what it said: the answer, or the last line of its complaint."""
    command = [runtime, "container", "inspect", "--format", "{{.State.Pid}}", "--", container]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="surrogateescape", timeout=ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise HostError(runtime, f"it gave no answer in {ANSWER_S:g} s") from error
    except OSError as error:
        raise HostError(runtime, error.strerror or str(error)) from error
    said = done.stdout if done.returncode == 0 else done.stderr
    return done.returncode, (said.strip().splitlines() or [""])[-1]
