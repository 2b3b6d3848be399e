"""The agent's control socket: who may ask.

Owns the socket, and the lock beside it. Is given what answers requests. Must not know what is answered. The protocol:
pydoc sgdataplane.daemon.protocol.
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
from pathlib import Path

from sgdataplane.daemon.clients import Clients
from sgdataplane.daemon.logs import event
from sgdataplane.daemon.protocol import (
    EXPECTED,
    MAX_CLIENTS,
    MAX_REQUEST_BYTES,
    ProtocolError,
    Question,
    parse_request,
    spell_refusal,
)
from sgdataplane.errors import HostError

CREDENTIALS = struct.Struct("=iII")  # struct ucred: process, user, group

Answer = Callable[[Question], bytes]


class ControlServer(Clients):
    """Serves in the caller's loop, by the selector that it is given: each key's data is what to call."""

    def __init__(
        self, path: Path, selector: selectors.BaseSelector, answer: Answer, clock: Callable[[], float]
    ) -> None:
        self._path, self._answer = path, answer
        self._lock = _locked(path)
        try:
            self._listening = _listening(path)
        except HostError:
            os.close(self._lock)
            raise
        super().__init__(self._listening, selector, self._replied, clock)

    def close(self) -> None:
        super().close()
        self._listening.close()
        self._path.unlink(missing_ok=True)
        os.close(self._lock)

    def _replied(self, door: socket.socket, asked: bytes) -> bytes | None:
        line, end, _ = asked.partition(b"\n")
        if len(line) > MAX_REQUEST_BYTES:
            return spell_refusal(f"more than {MAX_REQUEST_BYTES} bytes; expected {EXPECTED}")
        return self._answered(door, line) if end else None

    def _answered(self, door: socket.socket, line: bytes) -> bytes:
        credentials = door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        process, user, _ = CREDENTIALS.unpack(credentials)
        if user not in (0, os.geteuid()):
            event(logging.WARNING, "control-refused", pid=process, uid=user)
            return spell_refusal("only root may ask")
        try:
            return self._answer(parse_request(line))
        except ProtocolError as error:
            return spell_refusal(str(error))


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
