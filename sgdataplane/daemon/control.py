"""The agent's control socket: who may ask, how much and how long.

Owns the socket and its clients, none of which can make the agent wait. Is given what answers requests. Must not know
what is answered. The protocol: pydoc sgdataplane.daemon.protocol.
"""

from __future__ import annotations

import fcntl
import logging
import os
import selectors
import socket
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sgdataplane.daemon.logs import event
from sgdataplane.daemon.protocol import (
    EXPECTED,
    MAX_CLIENTS,
    MAX_REQUEST_BYTES,
    MAX_SECONDS,
    ProtocolError,
    Request,
    parse_request,
    spell_refusal,
)
from sgdataplane.errors import HostError

CREDENTIALS = struct.Struct("=iII")  # struct ucred: process, user, group
CHUNK = 1 << 16

Answer = Callable[[Request], bytes]


@dataclass(slots=True)
class _Client:
    door: socket.socket
    deadline: float
    asked: bytes = b""
    answer: bytes = b""
    sent: int = 0


class ControlServer:
    """Serves in the caller's loop, by the selector that it is given: each key's data is what to call."""

    def __init__(
        self, path: Path, selector: selectors.BaseSelector, answer: Answer, clock: Callable[[], float]
    ) -> None:
        self._path, self._selector, self._answer, self._clock = path, selector, answer, clock
        self._clients: dict[int, _Client] = {}
        self._lock = _locked(path)
        try:
            self._door = _listening(path)
        except HostError:
            os.close(self._lock)
            raise
        self._is_accepting = False
        self._accept_if_room()

    def close(self) -> None:
        for client in tuple(self._clients.values()):
            self._drop(client)
        if self._is_accepting:
            self._selector.unregister(self._door)
        self._door.close()
        self._path.unlink(missing_ok=True)
        os.close(self._lock)

    @property
    def wait_s(self) -> float | None:
        """How long until the first client's time is over; None without clients."""
        first = min((client.deadline for client in self._clients.values()), default=None)
        return None if first is None else max(0.0, first - self._clock())

    def expire(self) -> None:
        """Leave those that have taken too long."""
        for client in [client for client in self._clients.values() if client.deadline <= self._clock()]:
            self._drop(client)

    def _accept_if_room(self) -> None:
        """Others wait in the kernel's queue."""
        has_room = len(self._clients) < MAX_CLIENTS
        if has_room and not self._is_accepting:
            self._selector.register(self._door, selectors.EVENT_READ, self._accept)
        elif self._is_accepting and not has_room:
            self._selector.unregister(self._door)
        self._is_accepting = has_room

    def _accept(self) -> None:
        try:
            door, _ = self._door.accept()
        except OSError:  # it went away again, or we have no descriptor left
            return
        door.setblocking(False)
        client = _Client(door, self._clock() + MAX_SECONDS)
        self._clients[door.fileno()] = client
        self._selector.register(door, selectors.EVENT_READ, lambda: self._read(client))
        self._accept_if_room()

    def _drop(self, client: _Client) -> None:
        del self._clients[client.door.fileno()]
        self._selector.unregister(client.door)
        client.door.close()
        self._accept_if_room()

    def _read(self, client: _Client) -> None:
        try:
            data = client.door.recv(MAX_REQUEST_BYTES + 1 - len(client.asked))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.asked += data
        line, end, _ = client.asked.partition(b"\n")
        if len(line) > MAX_REQUEST_BYTES or (not end and len(client.asked) > MAX_REQUEST_BYTES):
            self._reply(client, spell_refusal(f"more than {MAX_REQUEST_BYTES} bytes; expected {EXPECTED}"))
        elif end:
            self._reply(client, self._answered(client, line))
        elif not data:
            self._drop(client)

    def _answered(self, client: _Client, line: bytes) -> bytes:
        credentials = client.door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        process, user, _ = CREDENTIALS.unpack(credentials)
        if user not in (0, os.geteuid()):
            event(logging.WARNING, "control-refused", pid=process, uid=user)
            return spell_refusal("only root may ask")
        try:
            return self._answer(parse_request(line))
        except ProtocolError as error:
            return spell_refusal(str(error))

    def _reply(self, client: _Client, answer: bytes) -> None:
        client.answer = answer
        self._selector.modify(client.door, selectors.EVENT_WRITE, lambda: self._write(client))

    def _write(self, client: _Client) -> None:
        try:
            client.sent += client.door.send(memoryview(client.answer)[client.sent : client.sent + CHUNK])
        except BlockingIOError:
            return
        except OSError:  # it went away
            client.sent = len(client.answer)
        if client.sent == len(client.answer):
            self._drop(client)


def _locked(path: Path) -> int:
    """The lock beside the socket, which only one process has. HostError if an agent runs already."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _not_made(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise HostError(str(path), "an agent is running already") from error
    return lock


def _listening(path: Path) -> socket.socket:
    """A socket at the path, in place of one that was left there. HostError if it can't be made."""
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()
        former = os.umask(0o177)
        try:
            door.bind(str(path))
        finally:
            os.umask(former)
        door.listen(MAX_CLIENTS)
        door.setblocking(False)
    except OSError as error:
        door.close()
        raise _not_made(path, error) from error
    return door


def _not_made(path: Path, error: OSError) -> HostError:
    return HostError(str(path), error.strerror or str(error))
