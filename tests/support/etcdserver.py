"""Members of etcd that tests start, hurt and end themselves; each is a process of the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PATIENCE_S = 30.0 * float(os.environ.get("SGDP_PATIENCE", "1"))
HEARTBEAT_MS, ELECTION_MS = 50, 500
# The process's end can't lose what the kernel has, so tests of commits needn't wait for the disk.
FAST = ("--unsafe-no-fsync",)


def until(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port: int = door.getsockname()[1]
        return port


@dataclass
class Member:
    """One member. `prefix`: a command that the program is run by, such as one that goes into a namespace."""

    name: str
    folder: Path
    host: str = "127.0.0.1"
    flags: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    scheme: str = "http"
    port: int = field(default_factory=free_port)
    peer_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}"

    @property
    def peer_url(self) -> str:
        return f"http://{self.host}:{self.peer_port}"

    def start(self, members: Sequence[Member]) -> None:
        """With a log in its folder. It serves once `wait` returns."""
        command = [
            *self.prefix,
            _program(),
            *("--name", self.name, "--data-dir", str(self.folder / "data")),
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
            *("--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", ",".join(f"{one.name}={one.peer_url}" for one in members)),
            *("--heartbeat-interval", str(HEARTBEAT_MS), "--election-timeout", str(ELECTION_MS)),
            *("--log-level", "warn"),
            *self.flags,
        ]
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def is_healthy(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=1) as answer:
            return b"true" in answer.read()
        return False

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, *, kill: bool = True) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            (self.process.kill if kill else self.process.terminate)()
            self.process.wait()
            self.process = None


@dataclass
class Members:
    """A cluster on this loopback."""

    all: list[Member]

    @property
    def store(self) -> str:
        """As `--store` names it; a name of a test's own can be added."""
        return "etcd://" + ",".join(member.address for member in self.all)

    def start(self) -> None:
        for member in self.all:
            member.start(self.all)
        for member in self.all:
            until(member.is_healthy, f"{member.name} to serve")

    def stop(self) -> None:
        for member in self.all:
            member.stop()


def _program() -> str:
    found = shutil.which("etcd")
    if found is None:
        pytest.skip("needs etcd-server: make setup installs it")
    return found


def control(member: Member, *words: str, check: bool = True) -> str:
    """What etcdctl says of a member."""
    command = ["etcdctl", "--endpoints", member.address, *words]
    environment = {**os.environ, "ETCDCTL_API": "3"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert not (check and done.returncode), done.stderr
    return done.stdout + done.stderr


@contextmanager
def running(folder: Path, count: int = 1, flags: tuple[str, ...] = FAST) -> Iterator[Members]:
    members = Members([Member(f"m{number}", folder / f"m{number}", flags=flags) for number in range(count)])
    try:
        members.start()
        yield members
    finally:
        members.stop()
