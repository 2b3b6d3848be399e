"""Processes of ours that fork from the tests' own, in which everything is imported already.

Such a process takes a tenth of the processor time of a new interpreter, which has to import everything. All else is
the same: its arguments, environment, folder, streams, signals and exit code. It inherits no open file, lock or socket
of the tests, and ends with the process of the tests.

Owns how a function becomes a process. Must not know what it runs.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import stat
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
RUN_S = 120.0
PROGRAM = ("cli.agent", "cli.apply", "cli.attach", "cli.group", "cli.lab", "daemon.agent")  # what takes long to import
LIBC = ctypes.CDLL(None, use_errno=True)
started: list[Forked] = []


class Forked(subprocess.Popen[bytes]):
    """`main` in a process of its own, with `arguments` in sys.argv. Everything else is as of Popen."""

    def __init__(self, main: Callable[[], int], arguments: Sequence[str], **more: Any) -> None:  # noqa: ANN401  # Popen's
        self._main = main
        super().__init__(["forked", *arguments], **more)
        started.append(self)

    def _execute_child(self, args: list[str], *rest: Any) -> None:  # noqa: ANN401  # Popen calls it so
        _, _, _, pass_fds, cwd, env, _, _, _, *files = rest
        pipes = files[:6]
        sys.stdout.flush()
        with warnings.catch_warnings():  # of threads: the one that talks with pytest-xdist holds nothing that matters
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            _become(args, (pipes[0], pipes[3], pipes[5]), pass_fds, cwd, env, has_own_session=files[11])
            _run(self._main)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]  # Popen's own


def forked_sgdp(*arguments: str, **more: Any) -> Forked:  # noqa: ANN401  # Popen's
    """`sgdp` with these arguments."""
    return Forked(_imported_program(), arguments, **more)


def run_forked_sgdp(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401  # Popen's
    """Run it to its end, and return what it has printed."""
    with forked_sgdp(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more) as process:
        out, error = process.communicate(timeout=RUN_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out.decode(), error.decode())


@cache
def _imported_program() -> Callable[[], int]:
    """The function that is `sgdp`, with what it would import while it runs."""
    for module in PROGRAM:
        import_module(f"sgdataplane.{module}")
    main: Callable[[], int] = import_module("sgdataplane.cli.main").main
    return main


def still_running() -> tuple[str, ...]:
    """A line for each of these processes that hasn't ended."""
    return tuple(f"process {each.pid}: {each.args!r}" for each in started if each.poll() is None)


def _become(
    args: list[str],
    streams: tuple[int, int, int],
    kept: Collection[int],
    folder: str | Path | None,
    environment: Mapping[str, str] | None,
    *,
    has_own_session: bool,
) -> None:
    """Be as a new process: nothing of the test's is open, and no handler of its signals is left."""
    gc.freeze()  # what is garbage of the test's closes no file of ours
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number, file in enumerate(streams):
        if file != -1:
            os.dup2(file, number)
    for file in map(int, os.listdir("/proc/self/fd")):
        if file > 2 and file not in kept and not _is_folder(file):
            os.close(file)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if has_own_session:
        os.setsid()
    if folder is not None:
        os.chdir(folder)
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115  # its own
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]  # as at a start
    sys.argv = args


def _is_folder(file: int) -> bool:
    """A folder holds nobody up, and the product keeps that of /proc open (host/ownproc.py)."""
    try:
        return stat.S_ISDIR(os.fstat(file).st_mode)
    except OSError:  # the one by which the folder was read
        return True


def _run(main: Callable[[], int]) -> NoReturn:
    code = 1
    try:
        code = main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001  # nobody else says it
        traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
