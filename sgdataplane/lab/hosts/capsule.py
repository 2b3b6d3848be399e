"""A capsule: namespaces of processes, mounts and network that end with the process that made them, whatever ends it.

Owns these namespaces, the rooms in a capsule, and starting processes there. Must not know what runs in them.

    capsule  a PID namespace, a mount namespace with a /run of its own, and a network namespace. Its first process waits
             until our end of a pipe closes; so the kernel kills everything there once we are gone, by kill -9 too
    room     a network and a mount namespace in it, with a /run/netns, a /run/sgdataplane and a host name of its own; a
             process that does nothing keeps it

Nothing of a capsule has a name outside. From here, a namespace is a path below /proc, and files are below `Room.path`.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import sgdataplane
from sgdataplane.errors import HostError
from sgdataplane.lab.patience import patient

CLONE_NEWPID = 0x20000000  # linux/sched.h
END_S = patient(20.0)
SHARED = Path("/run/lab")  # a folder that all rooms of a capsule see, and nobody else
READY = b"ready\n"
KINDS = {"mount": "mnt", "net": "net", "uts": "uts"}  # namespaces of a room, and how /proc calls them
# The first process reaps whatever is left to it, as it ignores its children's ends.
CAPSULE = f"""
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/netns /run/sgdataplane {SHARED}
ip link set lo up
echo ready
trap '' CHLD
exec cat > /dev/null
"""
ROOM = """
hostname "$0"
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run/netns
mount -t tmpfs -o mode=700 tmpfs /run/sgdataplane
ip link set lo up
echo ready
exec sleep infinity
"""


@dataclass(frozen=True)
class Room:
    """`pid`: of the process that keeps it, as we see it."""

    name: str
    pid: int

    @property
    def netns(self) -> str:
        """Its network namespace."""
        return f"/proc/{self.pid}/ns/net"

    def path(self, inside: str | Path) -> Path:
        """A file in there, from here."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def named(self, name: str) -> str:
        """The network namespace that has this name in there."""
        return str(self.path(f"/run/netns/{name}"))

    def enter(self) -> list[str]:
        """What a command begins with that is to run in there."""
        kinds = (f"--{kind}=/proc/{self.pid}/ns/{file}" for kind, file in KINDS.items())
        return ["nsenter", *kinds, "--wd=/"]


class Capsule:
    """Use it as a context manager. Several threads may start processes."""

    def __init__(self) -> None:
        self._keeper: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._own = self._theirs = -1
        self.room = Room("capsule", 0)

    def __enter__(self) -> Self:
        alone = ("unshare", "--pid", "--mount", "--net", "--fork", "--kill-child", "--propagation", "private")
        self._keeper = subprocess.Popen(
            [*alone, "sh", "-euc", CAPSULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        try:
            _wait_ready(self._keeper, "capsule")
            pid = int(Path(f"/proc/{self._keeper.pid}/task/{self._keeper.pid}/children").read_text("ascii"))
            self._own, self._theirs = (os.open(f"/proc/{who}/ns/pid", os.O_RDONLY) for who in ("thread-self", pid))
        except BaseException:
            self._keeper.kill()
            self._keeper.wait()
            raise
        self.room = Room("capsule", pid)
        return self

    def __exit__(self, *_: object) -> None:
        """The kernel kills what is in there. The first process ends when we have seen all others end."""
        assert self._keeper is not None
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            if pipe is not None:
                pipe.close()
        for process in self._started:
            process.wait(END_S)
        self._keeper.wait(END_S)
        for handle in (self._own, self._theirs):
            os.close(handle)

    def make_room(self, name: str) -> Room:
        """HostError if the kernel refuses."""
        alone = ("unshare", "--mount", "--net", "--uts", "--propagation", "private")
        process = self.start([*alone, "sh", "-euc", ROOM, name], stdout=subprocess.PIPE)
        _wait_ready(process, f"room {name}")
        return Room(name, process.pid)

    def start(
        self,
        command: Sequence[str],
        room: Room | None = None,
        *,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] | None = None,
    ) -> subprocess.Popen[bytes]:
        """A process in a room, or else in the capsule itself. Ctrl-C reaches only us."""
        with self._inside_pids():
            process = subprocess.Popen(
                [*(room or self.room).enter(), *command],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=python_environment(),
                start_new_session=True,
            )
        with self._lock:
            self._started = [*(one for one in self._started if one.poll() is None), process]
        return process

    def run(self, command: Sequence[str], room: Room | None = None, seconds: float = END_S) -> str:
        """What it prints. HostError with what it says if it fails, or isn't done in that time."""
        process = self.start(command, room, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            output, said = process.communicate(timeout=patient(seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise HostError(" ".join(command[:3]), f"it was not done in {seconds:g} s") from None
        if process.returncode:
            raise HostError(" ".join(command[:3]), (said or output).decode(errors="replace").strip())
        return output.decode(errors="replace")

    @contextmanager
    def _inside_pids(self) -> Iterator[None]:
        """What the calling thread starts in the block is in the capsule's PID namespace. It can't start threads."""
        _enter_pids(self._theirs)
        try:
            yield
        finally:
            _enter_pids(self._own)


def python_environment() -> dict[str, str]:
    """With which other processes find this package."""
    root = str(Path(sgdataplane.__file__).parent.parent)
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path}


def sgdp(*words: str) -> list[str]:
    """The command `sgdp`, whatever is installed."""
    return [sys.executable, "-m", "sgdataplane", *words]


def _wait_ready(process: subprocess.Popen[bytes], what: str) -> None:
    """HostError if it doesn't say in time that it is. It writes nothing more."""
    assert process.stdout is not None
    timer = threading.Timer(END_S, process.kill)
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    if line != READY:
        process.kill()
        process.wait()
        raise HostError(what, "its namespaces could not be made: unshare, mount and ip say why above")
    process.stdout.close()


def _enter_pids(handle: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, CLONE_NEWPID) < 0:
        raise HostError("setns", os.strerror(ctypes.get_errno()))
