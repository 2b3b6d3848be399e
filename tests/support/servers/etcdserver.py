"""Members of etcd that tests start, hurt and end themselves; each is a process of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.run.waiting import is_so_within

NAP_S = 0.01
DEADLINE_S = 30.0 * float(os.environ.get("SGDP_TIMEOUT_FACTOR", "1"))
PORTS = iter(range(20_000, 32_768))  # below those that the kernel gives to sockets without one
HEARTBEAT_MS, ELECTION_MS = 50, 500
# The process's end can't lose what the kernel has, so tests of commits needn't wait for the disk.
FAST = ("--unsafe-no-fsync",)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block takes no longer, but for what the machine holds it up: a thread beside it says how late it wakes."""
    is_over, late = threading.Event(), [0.0]

    def watch() -> None:
        while not is_over.is_set():
            asleep = time.monotonic()
            is_over.wait(NAP_S)
            late[0] += max(0.0, time.monotonic() - asleep - NAP_S)

    watching = threading.Thread(target=watch)
    began = time.monotonic()
    watching.start()
    try:
        yield
    finally:
        took = time.monotonic() - began
        is_over.set()
        watching.join()
    assert took - late[0] < seconds


def until(is_true: Callable[[], bool], what: str) -> None:
    assert is_so_within(DEADLINE_S, is_true), f"waited for {what}"


def free_port() -> int:
    """Return a port that nobody has, and that neither this process nor the kernel gives away again."""
    return next(port for port in PORTS if _is_free(port))


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@dataclass
class Member:
    """One member. `prefix`: a command that the program is run by, such as one that goes into a namespace. `tls`: what
    etcdctl is told of TLS."""

    name: str
    folder: Path
    host: str = "127.0.0.1"
    flags: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    tls: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    peer_port: int = field(default_factory=free_port)
    health_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"

    @property
    def peer_url(self) -> str:
        return f"http://{self.host}:{self.peer_port}"

    @property
    def health_url(self) -> str:
        """Answers without TLS."""
        return f"http://{self.host}:{self.health_port}"

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
            *("--listen-metrics-urls", self.health_url, "--log-level", "warn"),
            *self.flags,
        ]
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def is_healthy(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.health_url}/health", timeout=1) as answer:
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
    """A cluster."""

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
    command = ["etcdctl", "--endpoints", member.address, *member.tls, *words]
    environment = {**os.environ, "ETCDCTL_API": "3"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert not (check and done.returncode), done.stderr
    return done.stdout + done.stderr


def leader(members: Members) -> Member:
    """The one that leads, once there is one."""
    until(lambda: len(_leading(members)) == 1, "a leader")
    return _leading(members)[0]


def _leading(members: Members) -> list[Member]:
    return [member for member in members.all if member.process is not None and _leads(member)]


def _leads(member: Member) -> bool:
    said = control(member, "endpoint", "status", "--write-out=json", "--command-timeout=1s", check=False)
    try:
        status = json.loads(said.splitlines()[0])[0]["Status"]
    except (ValueError, IndexError, TypeError):
        return False
    return bool(status.get("leader") == status["header"]["member_id"])


@contextmanager
def running(folder: Path, count: int = 1, flags: tuple[str, ...] = FAST) -> Iterator[Members]:
    """On this loopback."""
    members = [Member(f"m{number}", folder / f"m{number}", flags=flags) for number in range(count)]
    with started(members) as made:
        yield made


@contextmanager
def started(all_of_them: list[Member]) -> Iterator[Members]:
    members = Members(all_of_them)
    try:
        members.start()
        yield members
    finally:
        members.stop()
