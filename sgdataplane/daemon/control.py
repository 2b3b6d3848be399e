"""The agent's sockets: requests and answers, who may ask, and how to ask. One line of JSON goes each way.

Owns requests, answers and their limits, the sockets, and the lock beside the first one. Its input is what answers
requests. Must not know how a request is carried out.

    request     {"request": "status"}                       a line of at most 4,096 bytes, within 5 s
                {"request": "status", "eni": "eni-1"}       with this ENI alone
                {"request": "status", "after": 7}           once the last cycle is another one than 7, or after 5 s
                {"request": "counters", "eni": "eni-1"}     without "eni": for all ENIs
                {"request": "find", "eni": "web1"}          an ENI's id, or its instance's id or name
                {"request": "trial", "trial": "next"}       also trial-start and trial-stop
                {"request": "rollback", "policy": 7, "for_s": 600}    without "for_s": until somebody resumes
    answer      {"ok": true, "status": {...}}               the keys: pydoc sgdataplane.daemon.status
                {"ok": true, "counters": {...}}             the keys: pydoc sgdataplane.daemon.counts
                {"ok": true, "ids": [...], "near": [...]}   ENIs that the name may mean; if none, similar names
                {"ok": true, "trials": [...]}               records, as of pydoc sgdataplane.trial.record
                {"ok": true, "trial": {...}}                pydoc sgdataplane.trial.report; null: there is none
                {"ok": true, "policies": [...]}             pydoc sgdataplane.daemon.hold
                {"ok": true, "cycle": 7}                    reload, resync: that cycle or a later one does it; so does
                                                            rollback ("until": seconds since 1970, or null) and resume
                                                            ("held": whether there was something to end)
                {"ok": false, "error": "..."}               and what would be right
    The agent closes the connection after its answer. It answers root and the user that it runs as. At most 16 clients
    are served at a time; a new one gets the place of one that has taken more than 0.2 s.
    The status socket also answers the user whose state the agent reads. It tells only whether that is in force, and
    what its trials have counted: {"request": "status"}, and of the status: state without origin and waiting,
    cycle.error, each ENI's outcome, and trials.

    status      the state of everything; "eni" is an id
    reload      read the configuration and the state again, as SIGHUP does
    resync      write all rules again, whatever the kernel holds
    counters    hits per rule, read now; "eni" is an id
    trials      which trials run
    trial       what a trial has seen, read now
    trial-start, trial-stop     take up a trial that was written to the state directory; end one
    find        which ENI a name means, in the policy in force, or among those whose hits are still known
    policies    the policies that are kept
    rollback    hold that policy in place of the state on disk
    resume      enforce the state on disk again
"""

from __future__ import annotations

import enum
import json
import logging
import math
import os
import selectors
import socket
import stat
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sgdataplane.daemon.clients import MAX_CLIENTS, MAX_REQUEST_BYTES, Clients
from sgdataplane.daemon.logs import event
from sgdataplane.errors import HostError
from sgdataplane.host.private import make_private_folder, open_lock
from sgdataplane.visible import json_text

MAX_ANSWER_BYTES = 64 << 20


class Request(enum.Enum):
    """The kind of a request."""

    STATUS = "status"
    RELOAD = "reload"
    RESYNC = "resync"
    COUNTERS = "counters"
    FIND = "find"
    TRIALS = "trials"
    TRIAL = "trial"
    TRIAL_START = "trial-start"
    TRIAL_STOP = "trial-stop"
    POLICIES = "policies"
    ROLLBACK = "rollback"
    RESUME = "resume"


OF_TRIAL = (Request.TRIAL, Request.TRIAL_START, Request.TRIAL_STOP)  # requests that name a trial
NAMING = (Request.STATUS, Request.COUNTERS, Request.FIND)  # requests that may name an ENI


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """A client's request to the agent."""

    request: Request
    eni: str = ""  # for this one alone; "": for all
    trial: str = ""  # the trial that it is about
    policy: int = 0  # the number of the policy to go back to
    for_s: float = 0.0  # for how long; 0: until somebody resumes
    after: int = 0  # the last cycle that the client knows, to be told of the next; 0: tell at once

    @property
    def is_sound(self) -> bool:
        """Whether it names what its kind of request is about, and nothing else."""
        is_back = self.request is Request.ROLLBACK
        has_all = not is_back or (self.policy > 0 and 0 <= self.for_s < math.inf)
        has_more = (self.eni and self.request not in NAMING) or (self.trial and self.request not in OF_TRIAL)
        waits = self.after == 0 or (self.request is Request.STATUS and self.after > 0)
        return has_all and waits and not has_more and (is_back or not (self.policy or self.for_s))


# what else a request may have
KINDS = {"eni": (str,), "trial": (str,), "policy": (int,), "for_s": (int, float), "after": (int,)}
EXPECTED = 'a line {"request": R}, R one of ' + ", ".join(request.value for request in Request)


class ProtocolError(Exception):
    """A line is no valid request or answer. The message is for the other end."""


def parse_request(line: bytes) -> ControlRequest:
    """Read the line of a request.

    Raises:
        ProtocolError: It is none.
    """
    value = _object(line)
    word = value.pop("request", None)
    if not all(key in KINDS and type(entry) in KINDS[key] for key, entry in value.items()):
        raise ProtocolError(f"expected {EXPECTED}")
    found = next((request for request in Request if request.value == word), None)
    asked = None if found is None else ControlRequest(found, **value)
    if asked is None or not asked.is_sound:
        raise ProtocolError(f"no such request; expected {EXPECTED}")
    return asked


def spell_request(request: Request, eni: str = "", **about: Any) -> bytes:  # noqa: ANN401  # fields of ControlRequest
    """Return the line of a request. `about` are further fields of `ControlRequest`."""
    asked = ControlRequest(request, eni, **about)
    return _line({"request": request.value, **{key: entry for key in KINDS if (entry := getattr(asked, key))}})


def spell_answer(**content: object) -> bytes:
    """Return the line of an answer."""
    return _line({"ok": True, **content})


def spell_refusal(error: str) -> bytes:
    """Return the line that refuses a request."""
    return _line({"ok": False, "error": error})


def parse_answer(line: bytes) -> dict[str, object]:
    """Return an answer's content, without `ok`.

    Raises:
        ProtocolError: The agent has refused, with its words; or it is no answer.
    """
    value = _object(line)
    if value.get("ok") is not True:
        raise ProtocolError(str(value.get("error", "the answer could not be read")))
    return {key: entry for key, entry in value.items() if key != "ok"}


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON; expected {EXPECTED}") from error
    if not isinstance(value, dict):
        raise ProtocolError(f"not an object; expected {EXPECTED}")
    return value


def _line(value: Mapping[str, object]) -> bytes:
    return json_text(value, separators=(",", ":")).encode() + b"\n"


CREDENTIALS = struct.Struct("=iII")  # struct ucred: process, user, group

Answer = Callable[[ControlRequest], bytes]


@dataclass(frozen=True, slots=True)
class Loop:
    """The agent's loop, which serves the sockets."""

    selector: selectors.BaseSelector
    """Each key's data is what to call."""
    clock: Callable[[], float]
    cycles: Callable[[], int]
    """Returns the number of the agent's last cycle."""


class Answering(Clients):
    """Serves a socket in the agent's loop.

    `may_ask` is whether a user may ask, besides root and our own. `refusal` is what anybody else is told.
    """

    def __init__(
        self,
        listener: socket.socket,
        loop: Loop,
        answer: Answer,
        *,
        may_ask: Callable[[int], bool] = lambda _: False,
        refusal: str = "only root may ask",
    ) -> None:
        super().__init__(listener, loop.selector, self._answer_bytes, loop.clock)
        self._answer, self._cycles, self._may_ask, self._refusal = answer, loop.cycles, may_ask, refusal

    def _answer_bytes(self, sock: socket.socket, asked: bytes, is_last: bool) -> bytes | None:
        line, end, _ = asked.partition(b"\n")
        if len(line) > MAX_REQUEST_BYTES:
            return spell_refusal(f"more than {MAX_REQUEST_BYTES} bytes; expected {EXPECTED}")
        return self._answer_line(sock, line, is_last=is_last) if end else None

    def _answer_line(self, sock: socket.socket, line: bytes, *, is_last: bool) -> bytes | None:
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        process, user, _ = CREDENTIALS.unpack(credentials)
        if user not in (0, os.geteuid()) and not self._may_ask(user):
            event(logging.WARNING, "control-refused", pid=process, uid=user)
            return spell_refusal(self._refusal)
        try:
            asked = parse_request(line)
            waits = asked.after and asked.after == self._cycles() and not is_last
            return None if waits else self._answer(asked)
        except ProtocolError as error:
            return spell_refusal(str(error))


class ControlServer(Answering):
    """The control socket, for root alone."""

    def __init__(self, path: Path, loop: Loop, answer: Answer) -> None:
        self._path = path
        self._lock = _lock(path)
        try:
            self._listening = _listen(path, OURS)
        except HostError:
            os.close(self._lock)
            raise
        super().__init__(self._listening, loop, answer)

    def close(self) -> None:
        """Drop all clients, and remove the socket."""
        super().close()
        self._listening.close()
        self._path.unlink(missing_ok=True)
        os.close(self._lock)


class StatusServer:
    """The status socket, which serves nowhere until `follow` names a path.

    `tell` returns what the owner of the state is told, and `owner` that user.
    """

    def __init__(self, loop: Loop, tell: Callable[[], bytes], owner: Callable[[], int]) -> None:
        self._loop, self._tell, self._owner = loop, tell, owner
        self._at = ""
        self._listening: socket.socket | None = None
        self._clients: Answering | None = None

    def follow(self, at: str) -> str:
        """Serve at this path ("": nowhere) from now on; return why that fails, or "".

        Call it often: it does nothing if it serves there already.
        """
        if at == self._at:
            return ""
        self.close()
        if not at:
            return ""
        try:
            _require_ours(Path(at).parent)
            self._listening = _listen(Path(at), OURS_AND_GROUP)
        except HostError as error:
            return str(error)
        refusal = "only root and the owner of the state may ask"
        self._clients = Answering(
            self._listening, self._loop, self._answer, may_ask=lambda user: user == self._owner(), refusal=refusal
        )
        self._at = at
        return ""

    def close(self) -> None:
        """Drop all clients, and remove the socket."""
        if self._clients is not None and self._listening is not None:
            self._clients.close()
            self._listening.close()
            Path(self._at).unlink(missing_ok=True)
        self._at, self._listening, self._clients = "", None, None

    @property
    def wait_s(self) -> float | None:
        """The seconds until `expire` has something to do; None if there is nothing."""
        return None if self._clients is None else self._clients.wait_s

    def expire(self) -> None:
        """Drop clients that have taken too long."""
        if self._clients is not None:
            self._clients.expire()

    def answer_waiting(self) -> None:
        """Answer the clients whose answer waited for a cycle."""
        if self._clients is not None:
            self._clients.answer_waiting()

    def _answer(self, asked: ControlRequest) -> bytes:
        if replace(asked, after=0) != ControlRequest(Request.STATUS):
            raise ProtocolError('only the status is answered here: {"request": "status"}')
        return self._tell()


def _require_ours(folder: Path) -> None:
    """Refuse a folder where others could put a socket of their own, and say what isn't so.

    Raises:
        HostError: The folder is refused.
    """
    try:
        found = folder.stat()
    except OSError as error:
        raise _explain_not_made(folder, error) from error
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise HostError(str(folder), "not a folder that only root may write to")


def _lock(path: Path) -> int:
    """Take the lock beside the socket, which only one process can hold.

    Raises:
        HostError: An agent runs already, or others than we could take the lock.
    """
    beside = path.with_suffix(".lock")
    make_private_folder(path.parent, (path.name, beside.name, *BESIDE), may_be_read=True)
    try:
        lock = open_lock(beside)
    except OSError as error:
        raise _explain_not_made(path, error) from error
    import fcntl  # noqa: PLC0415  # Unix only

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise HostError(str(path), "an agent is running already") from error
    return lock


BESIDE = ("attached", "labs")  # what else there is in /run/sgdataplane
OURS, OURS_AND_GROUP = 0o600, 0o660  # the group is the folder's, if that says so (setgid)


def _listen(path: Path, mode: int) -> socket.socket:
    """Make a socket at the path; a socket that was left there is replaced.

    Raises:
        HostError: That fails.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()
        previous = os.umask(0o777 & ~mode)
        try:
            listener.bind(str(path))
        finally:
            os.umask(previous)
        listener.listen(MAX_CLIENTS)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _explain_not_made(path, error) from error
    return listener


def _explain_not_made(path: Path, error: OSError) -> HostError:
    return HostError(str(path), error.strerror or str(error))


ANSWER_S = 30.0  # an agent that is busy may take a while
TIMEVAL = struct.Struct("@ll")


UNIT = "sgdataplane.service"
UNIT_FOLDERS = tuple(map(Path, ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")))


def _start() -> str:
    """Return the command that starts the agent here."""
    return "systemctl start sgdataplane" if has_unit() else "sgdp agent [--config FILE] (no systemd unit is installed)"


def has_unit() -> bool:
    """Whether systemd has a unit of the agent here."""
    return any((folder / UNIT).exists() for folder in UNIT_FOLDERS)


def is_running(path: Path) -> bool:
    """Whether an agent serves at this socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(ANSWER_S)
        return sock.connect_ex(str(path)) == 0


def ask(path: Path, request: Request, seconds: float = ANSWER_S, **about: Any) -> dict[str, object]:  # noqa: ANN401
    """Ask the agent and return its answer. `about` are further fields of `ControlRequest`.

    Raises:
        HostError: There is no agent, it refuses, or it takes longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    data = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, TIMEVAL.pack(int(seconds), 0))
            sock.connect(str(path))  # waits if the queue is full, unlike with settimeout()
            sock.settimeout(seconds)
            sock.sendall(spell_request(request, **about))
            while not data.endswith(b"\n") and len(data) <= MAX_ANSWER_BYTES:
                sock.settimeout(max(0.001, deadline - time.monotonic()))
                part = sock.recv(1 << 20)
                if not part:
                    break
                data += part
    except (TimeoutError, BlockingIOError) as error:
        raise HostError(str(path), f"the agent gave no answer in {seconds:g} s") from error
    except OSError as error:
        raise _explain_silence(path, error) from error
    return _read_answer(path, data)


async def ask_async(path: Path, request: Request, **about: Any) -> dict[str, object]:  # noqa: ANN401
    """Ask the agent as `ask` does, without blocking the event loop, and without an end of its own.

    Raises:
        HostError: There is no agent, or it refuses.
    """
    import asyncio  # noqa: PLC0415  # the agent itself needs none

    try:
        reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_ANSWER_BYTES)
        try:
            writer.write(spell_request(request, **about))
            data = await reader.readline()
        finally:
            writer.close()
    except (OSError, ValueError) as error:  # ValueError: the line is too long
        raise _explain_silence(path, error) from error
    return _read_answer(path, data)


def _explain_silence(path: Path, error: Exception) -> HostError:
    """Return the error for an agent that can't be asked."""
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return HostError(str(path), f"no agent is running there; start it: {_start()}")
    return HostError(str(path), getattr(error, "strerror", None) or str(error))


def _read_answer(path: Path, data: bytes) -> dict[str, object]:
    if not data:
        raise HostError(str(path), "the agent ended before it answered")
    try:
        return parse_answer(data)
    except ProtocolError as error:
        raise HostError(str(path), str(error)) from error
