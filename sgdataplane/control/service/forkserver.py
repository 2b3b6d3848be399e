"""The process beside the API that computes heavy answers: `python -m sgdataplane.control.service.forkserver PROFILE`.

Owns the process of each answer, and what such a process may use. Its input is jobs at the socket that is its stdin
(aside.py sends them). Must not know HTTP, keys or the store.

Each answer is computed in a fork: it has all modules at once, and can be killed at any time. There is only one thread
here, so forks are safe. A job has a socket of its own. As soon as the other end closes it, the kernel kills the fork by
SIGIO, whatever that is doing: nobody has to look.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import IO, NoReturn

from sgdataplane.control.calls.answers import UNAVAILABLE, ApiError
from sgdataplane.control.service.analysis import HeavyAnswers
from sgdataplane.control.service.heavy import HEAVY_S
from sgdataplane.control.service.jobs import read_job
from sgdataplane.store.call import Call
from sgdataplane.store.documents import Documents

MEMORY = 1 << 30  # bytes that an answer may use, beside what the fork server has
FORK_S = int(HEAVY_S) + 10  # after which a fork ends itself: the API has given it up before
NICE = 10
VICTIM = "1000"  # in oom_score_adj: if memory runs out, the kernel takes us and not the API


def serve(jobs: socket.socket, answers: HeavyAnswers) -> None:
    """Fork a process for each job, until the other end closes the socket."""
    gc.freeze()  # a fork's garbage collector would touch, and so copy, all that is there
    while fds := socket.recv_fds(jobs, 1, 2)[1]:
        with socket.socket(fileno=fds[0]) as answer, open(fds[1], "rb") as file:
            if not _has_gone(answer) and _fork() == 0:
                jobs.close()
                _answer(answer, answers, file)


def _fork() -> int | None:
    """Fork, and return what os.fork() does; None if the machine has no room for another process.

    Without a process, the job's socket closes, which tells the other end.
    """
    try:
        return os.fork()
    except OSError:
        return None


def _has_gone(answer: socket.socket) -> bool:
    """Whether the other end is closed."""
    poll = select.poll()
    poll.register(answer, select.POLLRDHUP)
    return bool(poll.poll(0))


# in a fork


def _answer(answer: socket.socket, answers: HeavyAnswers, job: IO[bytes]) -> NoReturn:
    try:
        _die_with(answer)
        _limit()
        text = json.dumps(_answer_or_error(answers, *read_job(job))).encode()
        _outlive(answer)
        answer.sendall(text)
    finally:
        os._exit(0)


def _answer_or_error(answers: HeavyAnswers, documents: Documents, call: Call) -> dict[str, object]:
    """Return the answer, or why there is none."""
    try:
        return {"answer": answers.compute(documents, call)}
    except ApiError as error:
        return {"refused": [error.code, error.message, error.status, error.extra]}
    except MemoryError:
        words = f"The answer needs more than {MEMORY >> 20} MB of memory, and was given up. Nothing was changed."
        return {"refused": ["ServiceUnavailable", words, UNAVAILABLE, {}]}
    except Exception:  # noqa: BLE001  # a bug: the API's log gets it
        return {"bug": traceback.format_exc()}


def _die_with(answer: socket.socket) -> None:
    """Have the kernel kill this process once the other end closes the socket, or has closed it."""
    fcntl.fcntl(answer, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(answer, fcntl.F_SETFL, fcntl.fcntl(answer, fcntl.F_GETFL) | os.O_ASYNC)
    if _has_gone(answer):
        os._exit(0)


def _outlive(answer: socket.socket) -> None:
    """Let this process live on if the other end closes the socket.

    From here on, SIGIO could also mean that there is room to write (socket(7)); and writing to a closed socket fails by
    itself.
    """
    fcntl.fcntl(answer, fcntl.F_SETFL, fcntl.fcntl(answer, fcntl.F_GETFL) & ~os.O_ASYNC)


def _limit() -> None:
    signal.alarm(FORK_S)
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = used + MEMORY if hard == resource.RLIM_INFINITY else min(used + MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


# the process


def main(make: Callable[[str], HeavyAnswers] = HeavyAnswers) -> None:
    """Serve the socket that is stdin. `make` returns what computes answers under a profile."""
    for number in (signal.SIGIO, signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for forks
    with suppress(OSError):  # a sandbox may forbid it
        os.nice(NICE)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(VICTIM)
    with socket.socket(fileno=0) as jobs:
        serve(jobs, make(sys.argv[1]))


if __name__ == "__main__":
    main()
