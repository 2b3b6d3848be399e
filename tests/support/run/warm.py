"""`sgdp` for tests that run it often: each call is a process that forks from one in which everything is imported.

A call takes a tenth of the processor time of a new interpreter, most of which imports. All else is as in one: its
arguments, environment, files, folder, namespaces, signals and exit code, and that nothing is left of the call before.
Run as a script, this is the process from which the others fork: `warm.py SOCKET`. It ends when its input does.

Owns how a call becomes a process. Must not know what is called, nor by whom.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import os
import pkgutil
import random
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn, TextIO

ROOT = Path(__file__).resolve().parents[3]
CALL = ROOT / "tests" / "support" / "run" / "warmcall.py"
PACKAGE = "sgdataplane"
COLD = f'exec {shlex.join([sys.executable, "-m", PACKAGE])} "$@"'  # a script, too, that is a new interpreter
# What goes on until it is told to end has a process number of its own that its caller may note, so it isn't forked.
DAEMONS = ("agent", "api", "relay", "sync")
LENGTH_BYTES, STATUS_BYTES, FILES = 4, 4, 6


LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Call:
    """What to run. `files`: input, output, errors, folder, and namespaces of mounts and of the network."""

    ignores_interrupts: bool
    arguments: list[str]
    environment: dict[bytes, bytes]
    files: list[int]


@contextmanager
def warm_program(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """A script for /bin/sh that is `sgdp`, for as long as this lasts. Its socket is in `folder`."""
    with warm_socket(folder, environment) as path:
        warm = shlex.join([sys.executable, "-I", "-S", str(CALL), str(path)])
        yield f'case "$1" in\n{"|".join(DAEMONS)}) {COLD} ;;\n*) exec {warm} "$@" ;;\nesac\n'


@contextmanager
def warm_socket(folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    """Where calls are taken, for as long as this lasts."""
    path = folder / "sgdp.sock"
    command = [sys.executable, str(Path(__file__).resolve()), str(path)]
    environment = environment | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        try:
            yield path
        finally:
            server.stdin.close()
            server.wait()


def import_everything() -> None:
    for module in pkgutil.walk_packages(import_module(PACKAGE).__path__, f"{PACKAGE}."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    assert threading.active_count() == 1, "only this thread would be in a fork"
    gc.collect()
    gc.freeze()


def serve(path: str) -> Call:
    """Returns in each process that is to run a call, and never in the one that waits for calls."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listener.fileno(), 0], [], [])
            reap()
            if 0 in ready:
                os._exit(0)
            connection, _ = listener.accept()
            if os.fork() == 0:
                break
            connection.close()
    with connection:
        call = receive(connection)
        child = os.fork()
        if child:
            connection.sendall(child.to_bytes(STATUS_BYTES, "little", signed=True))
            attend(child, connection, call)
    return call


def reap() -> None:
    """Let those go that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def receive(connection: socket.socket) -> Call:
    start, files, _, _ = socket.recv_fds(connection, 1, FILES)
    stream = connection.makefile("rb", buffering=0)
    head = start + read(stream, LENGTH_BYTES - len(start))
    ignores, count, *words = read(stream, int.from_bytes(head, "little")).split(b"\0")
    arguments, variables = words[: int(count)], words[int(count) :]
    environment = dict(variable.split(b"=", 1) for variable in variables if variable)
    return Call(ignores == b"1", [os.fsdecode(word) for word in arguments], environment, files)


def read(stream: io.RawIOBase, size: int) -> bytes:
    found = b""
    while len(found) < size and (part := stream.read(size - len(found))):
        found += part
    return found


def attend(child: int, connection: socket.socket, call: Call) -> NoReturn:
    """Pass on the caller's signals until the child ends, and then how. It ends with its caller."""
    for file in (*call.files, 0, 1, 2):  # a pipe ends once nobody but the child has it
        os.close(file)
    ended = os.pidfd_open(child)
    while True:
        ready, _, _ = select.select([ended, connection.fileno()], [], [])
        if ended in ready:
            break
        for number in hear(connection) or [signal.SIGKILL]:
            signal.pidfd_send_signal(ended, number)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(OSError):  # its caller may be gone
        connection.sendall(status.to_bytes(STATUS_BYTES, "little", signed=True))
    os._exit(0)


def hear(connection: socket.socket) -> bytes:
    """Numbers of signals; none if the caller is gone."""
    try:
        return connection.recv(64)
    except ConnectionResetError:
        return b""


def become(call: Call) -> None:
    """Be as a new process that somebody has started there."""
    *streams, folder, mounts, network = call.files
    for number, file in enumerate(streams):
        os.dup2(file, number)
    for name, file in (("mnt", mounts), ("net", network)):
        if os.fstat(file).st_ino != os.stat(f"/proc/self/ns/{name}").st_ino and LIBC.setns(file, 0):
            raise OSError(ctypes.get_errno(), "setns", name)
    os.fchdir(folder)
    for file in call.files:
        os.close(file)
    os.environ.clear()
    os.environb.update(call.environment)
    time.tzset()
    random.seed()
    signal.signal(signal.SIGINT, signal.SIG_IGN if call.ignores_interrupts else signal.default_int_handler)
    sys.stdin, sys.stdout, sys.stderr = (reopened(stream) for stream in (sys.stdin, sys.stdout, sys.stderr))
    sys.argv = [PACKAGE, *call.arguments]


def reopened(stream: TextIO) -> TextIO:
    """As an interpreter opens it at its start, since what it opens now may be a terminal."""
    number, mode = stream.fileno(), "r" if stream is sys.stdin else "w"
    is_prompt = os.isatty(number) or number == sys.stderr.fileno()
    raw = open(number, f"{mode}b", closefd=False)  # noqa: SIM115  # for as long as the process
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=is_prompt)


def main() -> None:
    import_everything()
    call = serve(sys.argv[1])
    become(call)
    code = 1
    try:
        runpy.run_module(PACKAGE, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001  # as the interpreter does
        traceback.print_exc()
    end(code)


def end(code: int) -> NoReturn:
    """End as the interpreter does, but take no module apart, which would copy all memory that is still shared."""
    threading._shutdown()  # type: ignore[attr-defined]  # it waits for threads
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
