"""A process sandbox: namespaces of processes, mounts and network that end with the process that made them.

Owns these namespaces, the host namespaces in a sandbox, and starting processes there. Must not
know what runs in them.

    sandbox  a PID namespace, a mount namespace with a /run of its own, and a network namespace. Its first process waits
             until our end of a pipe closes; so the kernel kills everything there once we are gone, by kill -9 too
    host namespace
             a network and a mount namespace in it, with a /run/netns, a /run/sgdataplane and a host name of its own; a
             process that does nothing keeps it

Nothing of a sandbox has a name outside. From outside, a namespace is a path below /proc, and files are below
`HostNamespace.path`.
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
from sgdataplane.lab.waiting import scale_timeout

CLONE_NEWPID = 0x20000000  # linux/sched.h
END_S = scale_timeout(20.0)
SHARED = Path("/run/lab")  # a folder that all host namespaces of a sandbox see, and nobody else
READY = b"ready\n"
KINDS = {"mount": "mnt", "net": "net", "uts": "uts"}  # namespaces of a host namespace, and how /proc calls them
# The first process reaps whatever is left to it, as it ignores its children's ends.
SANDBOX = f"""
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/netns /run/sgdataplane {SHARED}
ip link set lo up
echo ready
trap '' CHLD
exec cat > /dev/null
"""
HOST_NAMESPACE = """
hostname "$0"
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run/netns
mount -t tmpfs -o mode=700 tmpfs /run/sgdataplane
ip link set lo up
echo ready
exec sleep infinity
"""


@dataclass(frozen=True)
class HostNamespace:
    """The namespaces of one host in a sandbox, or of the sandbox itself."""

    name: str
    pid: int
    """The process that keeps the namespaces, as it is numbered outside."""

    @property
    def netns(self) -> str:
        """The path of its network namespace."""
        return f"/proc/{self.pid}/ns/net"

    def path(self, inside: str | Path) -> Path:
        """Return where a file in there is seen from outside."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def get_namespace_path(self, name: str) -> str:
        """Return the path of the network namespace that has this name in there."""
        return str(self.path(f"/run/netns/{name}"))

    def enter(self) -> list[str]:
        """Return the beginning of a command that is to run in there."""
        kinds = (f"--{kind}=/proc/{self.pid}/ns/{file}" for kind, file in KINDS.items())
        return ["nsenter", *kinds, "--wd=/"]


class Sandbox:
    """A sandbox that exists while the block of its `with` runs. Several threads may start processes in it.

    Attributes:
        namespace: The sandbox itself, as a host namespace; with pid 0 before it is made.
    """

    def __init__(self) -> None:
        self._keeper: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._own = self._theirs = -1
        self.namespace = HostNamespace("sandbox", 0)

    def __enter__(self) -> Self:
        alone = ("unshare", "--pid", "--mount", "--net", "--fork", "--kill-child", "--propagation", "private")
        self._keeper = subprocess.Popen(
            [*alone, "sh", "-euc", SANDBOX], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        try:
            _wait_ready(self._keeper, "sandbox")
            pid = int(Path(f"/proc/{self._keeper.pid}/task/{self._keeper.pid}/children").read_text("ascii"))
            self._own, self._theirs = (os.open(f"/proc/{who}/ns/pid", os.O_RDONLY) for who in ("thread-self", pid))
        except BaseException:
            self._keeper.kill()
            self._keeper.wait()
            raise
        self.namespace = HostNamespace("sandbox", pid)
        return self

    def __exit__(self, *_: object) -> None:
        """End everything in there, and wait for it.

        The kernel kills the processes when the first one ends. It lets the first one go only when all others have been
        waited for, so the first one is waited for last.
        """
        assert self._keeper is not None
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            if pipe is not None:
                pipe.close()
        for process in self._started:
            process.wait(END_S)
        self._keeper.wait(END_S)
        for handle in (self._own, self._theirs):
            os.close(handle)

    def make_namespace(self, name: str) -> HostNamespace:
        """Make a host namespace. HostError if the kernel refuses."""
        alone = ("unshare", "--mount", "--net", "--uts", "--propagation", "private")
        process = self.start([*alone, "sh", "-euc", HOST_NAMESPACE, name], stdout=subprocess.PIPE)
        _wait_ready(process, f"host namespace {name}")
        return HostNamespace(name, process.pid)

    def start(
        self,
        command: Sequence[str],
        namespace: HostNamespace | None = None,
        *,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process in a host namespace, or else in the sandbox itself. Ctrl-C doesn't reach it."""
        with self._inside_pids():
            process = subprocess.Popen(
                [*(namespace or self.namespace).enter(), *command],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=python_environment(),
                start_new_session=True,
            )
        with self._lock:
            self._started = [*(one for one in self._started if one.poll() is None), process]
        return process

    def run(self, command: Sequence[str], namespace: HostNamespace | None = None, seconds: float = END_S) -> str:
        """Run a command, and return what it prints.

        Raises:
            HostError: It fails, or isn't done in that time; the message has what it said.
        """
        process = self.start(command, namespace, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            output, said = process.communicate(timeout=scale_timeout(seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise HostError(" ".join(command[:3]), f"it was not done in {seconds:g} s") from None
        if process.returncode:
            raise HostError(" ".join(command[:3]), (said or output).decode(errors="replace").strip())
        return output.decode(errors="replace")

    @contextmanager
    def _inside_pids(self) -> Iterator[None]:
        """Put what the calling thread starts in the block into the sandbox's PID namespace.

        It can't start threads there.
        """
        _enter_pids(self._theirs)
        try:
            yield
        finally:
            _enter_pids(self._own)


def python_environment() -> dict[str, str]:
    """Return the environment by which other Python processes find this package."""
    root = str(Path(sgdataplane.__file__).parent.parent)
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path}


def sgdp(*words: str) -> list[str]:
    """Return the command `sgdp` with these words, run from this package, whatever is installed."""
    return [sys.executable, "-m", "sgdataplane", *words]


def _wait_ready(process: subprocess.Popen[bytes], what: str) -> None:
    """Wait until a process says that it is ready; it writes nothing after that.

    Raises:
        HostError: It doesn't in time.
    """
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
    """Put the children of the calling thread into a PID namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, CLONE_NEWPID) < 0:
        raise HostError("setns", os.strerror(ctypes.get_errno()))
