"""The components of a lab of hosts: each is one command in a host namespace, with a log, and can be started again.

Owns their processes, and whether they are well. Must not know which component needs which other.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgdataplane.daemon.control import Request, ask
from sgdataplane.errors import HostError
from sgdataplane.host import netns
from sgdataplane.lab.hosts.sandbox import SHARED, HostNamespace, Sandbox
from sgdataplane.lab.waiting import scale_timeout
from sgdataplane.visible import visible

WELL_S, POLL_S = scale_timeout(60.0), 0.02
TAIL = 2000  # bytes of a log that an error shows

Health = Callable[["Component"], bool]


def runs(_program: Component) -> bool:
    """Call a component well: enough for one that nobody can ask."""
    return True


@dataclass
class Component:
    """One command in a host namespace, with a log."""

    name: str
    sandbox: Sandbox
    namespace: HostNamespace
    command: Sequence[str]
    is_well: Health = runs
    """Tells whether it does its work."""
    starts: int = 0
    """How often it was started."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    """None before it was started."""

    @property
    def log(self) -> Path:
        """Its log, as a path outside the sandbox."""
        return self.sandbox.namespace.path(SHARED / f"{self.name}.log")

    @property
    def has_ended(self) -> bool:
        """Whether it doesn't run, because it ended or was never started."""
        return self.process is None or self.process.poll() is not None

    def start(self) -> None:
        """Start it, unless it runs already; return at once."""
        if self.has_ended:
            with open(self.log, "ab") as log:
                self.process = self.sandbox.start(self.command, self.namespace, stdout=log, stderr=log)
            self.starts += 1

    def kill(self) -> None:
        """End it as kill -9 does, and wait for that."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def wait_well(self) -> None:
        """Wait until it is well. HostError, with the end of its log, if it ends or isn't well in time."""

        def is_ready() -> bool:
            if self.has_ended:
                raise HostError(self.name, f"it has ended: {self.log_tail()}")
            return self.is_well(self)

        wait_for(is_ready, lambda: HostError(self.name, f"it was not ready within {WELL_S:g} s: {self.log_tail()}"))

    def log_tail(self) -> str:
        """Return the end of its log; empty if it can't be read."""
        try:
            return visible(self.log.read_bytes()[-TAIL:].decode(errors="replace").strip())
        except OSError:
            return ""


def wait_for(condition: Callable[[], bool], too_late: Callable[[], HostError]) -> None:
    """Return when the condition holds. Raise what `too_late` makes after WELL_S."""
    deadline = time.monotonic() + WELL_S
    while not condition():
        if time.monotonic() > deadline:
            raise too_late()
        time.sleep(POLL_S)


def health_page(url: str) -> Health:
    """Make a check for a component that says on a page at its own loopback that it is well, as etcd does."""

    def is_well(component: Component) -> bool:
        with (
            suppress(OSError),
            netns.inside(component.namespace.netns),
            urllib.request.urlopen(url, timeout=1) as answer,
        ):
            return b"true" in answer.read()
        return False

    return is_well


def accepts_tls(address: str, port: int, authority: Path) -> Health:
    """Make a check for a component that shows a certificate of that authority at an address and port."""

    def is_well(component: Component) -> bool:
        context = ssl.create_default_context(cafile=str(authority))
        try:
            with netns.inside(component.namespace.netns):
                plain = socket.create_connection((address, port), timeout=1)
            with plain, context.wrap_socket(plain, server_hostname=address):
                return True
        except ssl.SSLError as error:
            return error.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"  # it serves, but not whoever asks
        except OSError:
            return False

    return is_well


def agent_answers(agent_socket: Path) -> Health:
    """Make a check for an agent: it is well once it has done a cycle."""

    def is_well(_component: Component) -> bool:
        status = agent_status(agent_socket)
        return bool(status and status["cycle"]["number"])

    return is_well


def agent_status(agent_socket: Path) -> dict[str, Any]:
    """Return the agent's status; {} if it doesn't answer."""
    try:
        status = ask(agent_socket, Request.STATUS)["status"]
    except HostError:
        return {}
    return status if isinstance(status, dict) else {}
