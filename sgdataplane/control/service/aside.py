"""The API's end of computing heavy answers aside, in processes of a fork server.

Owns the fork server's life, and what it is sent. Must not know what an answer is about.

A job is one message with two descriptors: the socket that its answer comes from, and a file in memory with the call and
the documents that the answer follows from. So nobody waits for the fork server to read.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import AF_UNIX, SOCK_SEQPACKET, SOCK_STREAM, send_fds, socket, socketpair
from threading import Event, Lock
from types import TracebackType
from typing import Self

from sgdataplane.control.calls.answers import UNAVAILABLE, ApiError
from sgdataplane.control.service.jobs import write_job
from sgdataplane.store.call import Call
from sgdataplane.store.documents import Documents
from sgdataplane.store.interface import Body

STEP_S = 0.1  # so often it is looked whether an answer is still wanted
CHUNK, MAX_ANSWER = 1 << 16, 32 << 20  # bytes
MODULE = "sgdataplane.control.service.forkserver"
GIVEN_UP = "The answer was cancelled before it was ready. Nothing was changed."
DIED = "The process that computed the answer has ended before it was done. Nothing was changed."
BUSY = "The service has no room for another answer of this kind now. Nothing was changed."
TOO_LONG = f"The answer has more than {MAX_ANSWER >> 20} MB."


class Aside:
    """Computes heavy answers in other processes. Use as a context manager; leaving it ends them.

    `compute` may be called in any of several threads. The fork server is started by the first call, and again by the
    next one if it has ended.
    """

    def __init__(self, profile: str) -> None:
        self._profile, self._lock, self._is_closed = profile, Lock(), False
        self._server: _ForkServer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_closed = True
            self._forget()

    @property
    def pid(self) -> int | None:
        """The fork server's process id; None if it doesn't run."""
        return self._server.pid if self._server else None

    def compute(self, documents: Documents, call: Call, is_ended: Event) -> Body:
        """Return the answer's fields.

        Raises:
            ApiError: The call is refused, its process dies, or the event is set: soon after that, the process is
                killed.
        """
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        with ours:
            with theirs, open(os.memfd_create("job"), "w+b") as job:
                write_job(job, documents, call)
                with self._turn(is_ended):
                    self._submit(job.fileno(), theirs.fileno())
            return _read(b"".join(_parts(ours, is_ended)))

    @contextmanager
    def _turn(self, is_ended: Event) -> Iterator[None]:
        """Hold the lock while the block runs. Waiting for it ends soon once the answer isn't wanted any more."""
        while not self._lock.acquire(timeout=STEP_S):
            _require_wanted(is_ended)
        try:
            yield
        finally:
            self._lock.release()

    def _submit(self, job: int, answer: int) -> None:
        """Send a job, to a new fork server if the last one has ended."""
        for _ in range(2):
            if self._is_closed:
                raise _unavailable(GIVEN_UP)
            try:
                if self._server is None:
                    self._server = _ForkServer(self._profile)
                return self._server.send(answer, job)
            except ConnectionError:
                self._forget()
            except OSError:
                raise _unavailable(BUSY) from None
        raise _unavailable(DIED)

    def _forget(self) -> None:
        """End the fork server, and all that it has forked."""
        if self._server is not None:
            self._server.end()
        self._server = None


class _ForkServer:
    """A fork server that runs. It ends by itself if this process does."""

    def __init__(self, profile: str) -> None:
        self._jobs, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        self._jobs.setblocking(False)
        command = [sys.executable, "-P", "-m", MODULE, profile]
        found = os.pathsep.join(filter(None, sys.path))
        with theirs:
            stdin = (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)
            self.pid = os.posix_spawn(
                sys.executable, command, {**os.environ, "PYTHONPATH": found}, file_actions=[stdin], setsid=True
            )

    def send(self, *fds: int) -> None:
        """Hand over a job, as descriptors.

        Raises:
            ConnectionError: The process has ended.
            OSError: Too many jobs wait there.
        """
        send_fds(self._jobs, [b"j"], fds)

    def end(self) -> None:
        self._jobs.close()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _parts(answer: socket, is_ended: Event) -> Iterator[bytes]:
    """Yield the bytes of an answer until the other end closes the socket.

    Raises:
        ApiError: The answer isn't wanted any more, or is too long.
    """
    answer.settimeout(STEP_S)
    size = 0
    while True:
        _require_wanted(is_ended)
        try:
            part = answer.recv(CHUNK)
        except TimeoutError:
            continue
        except ConnectionError:
            part = b""
        if not part:
            return
        size += len(part)
        if size > MAX_ANSWER:
            raise _unavailable(TOO_LONG)
        yield part


def _require_wanted(is_ended: Event) -> None:
    if is_ended.is_set():
        raise _unavailable(GIVEN_UP)


def _read(text: bytes) -> Body:
    """Return the answer of a fork. One that was killed has sent nothing, or not all.

    Raises:
        ApiError: The call is refused, or the fork has died.
        RuntimeError: The fork had a bug.
    """
    try:
        told = json.loads(text)
    except ValueError:
        raise _unavailable(DIED) from None
    if "bug" in told:
        raise RuntimeError(told["bug"])
    if "refused" in told:
        raise ApiError(*told["refused"])
    body: Body = told["answer"]
    return body


def _unavailable(words: str) -> ApiError:
    return ApiError("ServiceUnavailable", words, UNAVAILABLE)
