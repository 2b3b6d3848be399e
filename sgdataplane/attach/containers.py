"""The process of a container, as its runtime says.

Owns the question to podman and docker, the one place where the product runs another program: it is the user's own tool
that knows their containers. Must not know namespaces.
"""

from __future__ import annotations

import shutil
import subprocess

from sgdataplane.attach.registry import refuse
from sgdataplane.errors import HostError

RUNTIMES = ("podman", "docker")
ANSWER_S = 30.0


def pid_of(container: str) -> int:
    """The first process of a running container; of several runtimes, the first that knows it. BindingError if none
    does, or it isn't running."""
    where = f"container {container}"
    runtimes = [name for name in RUNTIMES if shutil.which(name)]
    if not runtimes:
        code, message = "InvalidContainer.NoRuntime", "there is no container runtime that could be asked"
        refuse(where, code, message, container, f"{' or '.join(RUNTIMES)} on PATH; or use --pid")
    answers = {name: _ask(name, container) for name in runtimes}
    pid = next((int(text) for code, text in answers.values() if code == 0 and text.isdigit()), None)
    if pid is None:
        words = "; ".join(f"{name} says: {text or 'nothing'}" for name, (_, text) in answers.items())
        refuse(where, "InvalidContainer.NotFound", words, container, "the name or id of a running container")
    if pid == 0:
        message = "the container is not running, so it has no namespace"
        refuse(where, "InvalidContainer.NotRunning", message, container, "a container that has been started")
    return pid


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
