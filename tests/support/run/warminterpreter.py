"""Programs of ours that start at once, from an interpreter that has imported the product already.

    with warm_interpreter(root, *AGENT) as interpreter:
        interpreter.start("sgdataplane", ["agent", ...], log)     -> WarmProcess

An interpreter takes most of a second of processor time to import the agent, and tests start hundreds of them. So one
process imports it, runs nothing, and forks for each program that is asked for. The child has that program's arguments,
environment, network namespace and log; then it runs the module as `python -m` does, to the usual end. Tests of how a
process starts, or of what it may take, start one anew.

Owns that process and its children's ends. Must not know what is run.
"""

from __future__ import annotations

import array
import gc
import json
import os
import runpy
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from sgdataplane.enforce import inputs
from sgdataplane.host import netns

AGENT = ("sgdataplane.cli.main", "sgdataplane.cli.agent", "sgdataplane.daemon.agent", "pyroute2", "psutil")
MAX_REQUEST, NUMBER = 1 << 18, struct.Struct("=i")


class WarmProcess:
    """A child of that interpreter, in the words of subprocess.Popen. Its end is read from a pipe: its exit code, or the
    number of the signal that ended it, negated."""

    def __init__(self, args: Sequence[str], pid: int, ended: int) -> None:
        self.args, self.pid, self._ended = args, pid, ended
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended. subprocess.TimeoutExpired if it hasn't after that many seconds."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], seconds)[0]:
            self.returncode = _number(os.read(self._ended, NUMBER.size))
            os.close(self._ended)
        return self.returncode


def _number(data: bytes) -> int:
    """What a pipe said; the interpreter that would have said more has been killed if it said nothing."""
    return int(NUMBER.unpack(data)[0]) if data else -signal.SIGKILL


class WarmInterpreter:
    """The process that has imported these modules. It begins with the first program that is asked for."""

    def __init__(self, root: Path, imported: Sequence[str]) -> None:
        self._root, self._imported = root, imported
        self._link, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process: subprocess.Popen[bytes] | None = None

    def _begin(self) -> None:
        number = self._theirs.fileno()
        with self._theirs:
            command = [sys.executable, "-m", __name__, str(number), *self._imported]
            self._process = subprocess.Popen(command, cwd=self._root, pass_fds=(number,))

    def start(self, module: str, arguments: Sequence[str], log: Path, **environment: str) -> WarmProcess:
        """Run the module in this thread's network namespace. What it prints is appended to the log."""
        if self._process is None:
            self._begin()
        ended, theirs = os.pipe()
        with open(log, "ab") as out, open(netns.OWN_NETNS, "rb") as place:
            request = {"module": module, "arguments": [*arguments], "environment": {**os.environ, **environment}}
            descriptors = array.array("i", [theirs, out.fileno(), place.fileno()])
            self._link.sendmsg([json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        os.close(theirs)
        pid = _number(os.read(ended, NUMBER.size))
        return WarmProcess([module, *arguments], pid, ended)

    def close(self) -> None:
        """It ends; who was started from it and runs on has nobody that says how it ends."""
        self._link.close()
        self._theirs.close()
        if self._process is not None:
            self._process.wait()


@contextmanager
def warm_interpreter(root: Path, *imported: str) -> Iterator[WarmInterpreter]:
    """One that has imported these modules."""
    found = WarmInterpreter(root, imported)
    try:
        yield found
    finally:
        found.close()


@dataclass(frozen=True, slots=True)
class Program:
    """What a child is to run, where, and what it prints to."""

    module: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: int
    place: int

    def take_its_place(self) -> None:
        """This process gets its namespace, output, environment and arguments."""
        netns.enter(f"/proc/self/fd/{self.place}")
        for number in (1, 2):
            os.dup2(self.log, number)
        os.close(self.log)
        os.close(self.place)
        os.environ.clear()
        os.environ.update(self.environment)
        sys.argv = [self.module, *self.arguments]

    def run(self) -> None:
        runpy.run_module(self.module, run_name="__main__", alter_sys=True)


class Forking:
    """Forks a child for each request, and says how each has ended."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._ends: dict[int, int] = {}

    def next_program(self) -> Program | None:
        """In a child, what it is to run. Here, None once nobody asks any more."""
        woken, wakes = socket.socketpair()
        for end in (woken, wakes):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        with selectors.EpollSelector() as selector:
            selector.register(self._link, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if woken in ready:
                    woken.recv(4096)
                    self._bury()
                if self._link not in ready:
                    continue
                data, controls, _, _ = self._link.recvmsg(MAX_REQUEST, socket.CMSG_SPACE(3 * 4))
                if not data:
                    return None
                program = self._fork(data, controls)
                if program is not None:
                    break
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (woken, wakes, self._link):
            end.close()
        return program

    def _fork(self, data: bytes, controls: list[Any]) -> Program | None:
        descriptors = array.array("i")
        for _, _, given in controls:
            descriptors.frombytes(given)
        ended, log, place = descriptors
        pid = os.fork()
        if pid:
            os.close(log)
            os.close(place)
            self._ends[pid] = ended
            os.write(ended, NUMBER.pack(pid))
            return None
        for other in (ended, *self._ends.values()):
            os.close(other)
        return Program(**json.loads(data), log=log, place=place)

    def _bury(self) -> None:
        """Tell how each child that has ended did so."""
        for pid in tuple(self._ends):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                ended = self._ends.pop(pid)
                with suppress(BrokenPipeError):
                    os.write(ended, NUMBER.pack(os.waitstatus_to_exitcode(status)))
                os.close(ended)


def main() -> None:
    number, *imported = sys.argv[1:]
    for name in imported:
        import_module(name)
    inputs.program()  # which is kept
    gc.freeze()  # so that no collection of a child's copies it
    program = Forking(socket.socket(fileno=int(number))).next_program()
    if program is not None:
        program.take_its_place()
        program.run()


if __name__ == "__main__":
    main()
