"""Questions to the container engines podman and docker: a container's process, which ones run, are called, and start.

Owns these questions. Both engines answer them over HTTP on a Unix socket (Docker's Engine API). Their answers
aren't trusted. Must not know namespaces.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

from sgdataplane.attach.registry import refuse
from sgdataplane.errors import HostError
from sgdataplane.net.values import Address

ENGINES = ("podman", "docker")
# Where each engine listens, and the variable that names another socket, as for its own client.
SOCKETS = {"podman": "/run/podman/podman.sock", "docker": "/run/docker.sock"}
VARIABLES = {"podman": "CONTAINER_HOST", "docker": "DOCKER_HOST"}
UNIX = "unix://"
SYSTEMD = Path("/run/systemd/system")  # there if systemd runs this machine (sd_booted(3))
ANSWER_S = 10.0
NAME_S = 2.0  # for names alone, which nothing depends on
NOBODY = 0  # in place of the status of an answer
MAX_ANSWER, MAX_LINE = 1 << 24, 1 << 20  # bytes; both contain all labels of a container
WANTED = ("init", "start", "rename")  # podman sends the first one before anything runs in the container
NAME, ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}"), re.compile(r"[0-9a-f]{64}")
MIN_ID = 12  # digits of an id, as engines show it
STOPPED = "InvalidContainer.Stopped"  # on purpose, as the engine says
ENDED = ("exited", "stopped", "created")
FAILURES = ("OOMKilled", "Dead", "Error", "Restarting")
ON_PURPOSE = (0, 128 + 2, 128 + 9, 128 + 15)  # it ended by itself, or by SIGINT, SIGKILL, SIGTERM


def pid_of(container: str) -> int:
    """Return the first process of a running container.

    Raises:
        BindingError: No engine knows the container, both run one of that name, or it doesn't run.
    """
    where, answers = f"container {container}", {engine: _ask(engine, container) for engine in ENGINES}
    pids = {answer.pid for answer in answers.values() if answer.pid is not None}
    if not pids:
        is_known = any(answer.is_there for answer in answers.values())
        words = "; ".join(f"{engine}: {answer.words}" for engine, answer in answers.items())
        expected = f"the name or id of a running container; {_podman_hint()}"
        code = "InvalidContainer.NotFound" if is_known else "InvalidContainer.NoEngine"
        refuse(where, code, words, container, f"{expected}; or --pid")
    running = pids - {0}
    if len(running) > 1:
        message = f"{' and '.join(ENGINES)} both run a container with that name"
        refuse(where, "InvalidContainer.Ambiguous", message, container, "an id, or --pid")
    if not running:
        ended = [answer for answer in answers.values() if answer.pid == 0]
        words = "; ".join(answer.words for answer in ended if answer.words)
        message = f"the container is not running, so it has no namespace: {words}"
        code = STOPPED if all(answer.is_stopped for answer in ended) else "InvalidContainer.NotRunning"
        refuse(where, code, message, container, "a container that has been started")
    return running.pop()


def _podman_hint() -> str:
    """Return how to make podman listen here, with systemd or without."""
    alone = f"podman system service --time=0 {UNIX}{SOCKETS['podman']}"
    command = "systemctl enable --now podman.socket" if SYSTEMD.exists() else alone
    return f"`{command}` makes podman listen"


def socket_of(engine: str) -> str:
    """Return the path of an engine's socket.

    Raises:
        OSError: The environment names another machine, whose processes aren't here.
    """
    url = os.environ.get(VARIABLES[engine]) or UNIX + SOCKETS[engine]
    if not url.startswith(UNIX):
        raise OSError(f"{VARIABLES[engine]} is {url}, which is not a socket of this machine")
    return url.removeprefix(UNIX)


@dataclass(frozen=True, slots=True)
class Started:
    """A container that has started, is about to start, or was renamed."""

    name: str
    identifier: str

    @classmethod
    def read(cls, line: bytes) -> Self | None:
        """Read one event; None if it isn't valid."""
        try:
            actor = json.loads(line)["Actor"]
            name, identifier = actor["Attributes"]["name"], actor["ID"]
            is_clear = NAME.fullmatch(name) is not None and ID.fullmatch(identifier) is not None
        except (ValueError, LookupError, TypeError, RecursionError):
            return None
        return cls(name, identifier) if is_clear else None

    def is_called(self, container: str) -> bool:
        """Whether that is its name, its id, or the beginning of its id."""
        return container == self.name or (len(container) >= MIN_ID and self.identifier.startswith(container))


class Events:
    """Iterates over the containers that start from `since` (seconds since 1970) on.

    It ends when the engine ends it, or `end` does.

    Raises:
        OSError: The engine isn't there.
    """

    def __init__(self, engine: str, since: float) -> None:
        filters = json.dumps({"type": ["container"], "event": WANTED})
        self._request = "/events?" + urlencode({"since": int(since), "filters": filters})
        self._connection = _Connection(socket_of(engine))
        self._connection.connect()
        self._socket = self._connection.socket
        self._socket.settimeout(None)  # podman says nothing at all before there is something to tell

    def __iter__(self) -> Iterator[Started | None]:
        """Yield each event; None for one that isn't valid."""
        try:
            self._connection.request("GET", self._request)
            answer = self._connection.getresponse()
            while answer.status == http.client.OK and (line := answer.readline(MAX_LINE)):
                if line.endswith(b"\n"):
                    yield Started.read(line)
                else:
                    yield None
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error

    def end(self) -> None:
        """End the iteration; any thread may call it."""
        with suppress(OSError):  # it has ended
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, once nobody iterates any more."""
        self._connection.close()


class _Connection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: str, seconds: float = ANSWER_S) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path, self._seconds = path, seconds
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def connect(self) -> None:
        self.socket.settimeout(self._seconds)
        try:
            self.socket.connect(self._path)
        except OSError as error:
            self.socket.close()
            raise OSError(error.errno, error.strerror, self._path) from error
        self.sock = self.socket


@dataclass(frozen=True, slots=True)
class NetworkEnd:
    """A container's end in one of the engine's networks."""

    network: str
    mac: str
    addresses: tuple[tuple[Address, int], ...]  # with the lengths of the network's blocks


@dataclass(frozen=True, slots=True)
class Running:
    """A running container."""

    name: str
    ends: tuple[NetworkEnd, ...]
    published: frozenset[tuple[str, int]]  # protocol and port, inside the container, of what the host forwards to it


def list_running() -> tuple[Running, ...]:
    """Return all running containers of both engines, by name.

    Raises:
        BindingError: No engine answers.
        HostError: An answer isn't what engines say.
    """
    found, failures = list[Running](), list[str]()
    for engine in ENGINES:
        status, text = _request(engine, "/containers/json")
        if status == http.client.OK:
            found += _parse_list(engine, text)
        else:
            failures.append(f"{engine}: {_describe_failure(status, text)}")
    if len(failures) == len(ENGINES):
        expected = f"podman or docker; {_podman_hint()}"
        refuse("the containers of this machine", "InvalidContainer.NoEngine", "; ".join(failures), "", expected)
    return tuple(sorted(found, key=lambda each: each.name))


def _parse_list(engine: str, text: bytes) -> list[Running]:
    try:
        return [_parse_running(entry) for entry in json.loads(text)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise HostError(engine, f"its list of containers can't be read: {error!r}") from error


def names_by_id() -> dict[str, str]:
    """Return the names of all containers, by the digits of their ids that engines show.

    An engine that isn't there, is slow or gives an odd answer knows no names.
    """
    found: dict[str, str] = {}
    for engine in ENGINES:
        with suppress(HostError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            status, text = _request(engine, "/containers/json?all=true", NAME_S)
            for entry in json.loads(text) if status == http.client.OK else ():
                identifier, name = entry["Id"], entry["Names"][0].removeprefix("/")
                if ID.fullmatch(identifier) and NAME.fullmatch(name):
                    found[identifier[:MIN_ID]] = name
    return found


def _parse_running(entry: dict[str, Any]) -> Running:
    name = str(entry["Names"][0]).removeprefix("/")
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a container's name")
    networks = entry["NetworkSettings"]["Networks"] or {}
    ports = ((port["Type"], port["PrivatePort"]) for port in entry.get("Ports") or () if port.get("PublicPort"))
    published = frozenset((kind, port) for kind, port in ports if kind in ("tcp", "udp") and type(port) is int)
    return Running(name, tuple(_end(str(network), end) for network, end in sorted(networks.items())), published)


def _end(network: str, end: dict[str, Any]) -> NetworkEnd:
    fields = (("IPAddress", "IPPrefixLen"), ("GlobalIPv6Address", "GlobalIPv6PrefixLen"))
    addresses = tuple((Address.parse(end[name]), int(end[length])) for name, length in fields if end.get(name))
    return NetworkEnd(network, str(end.get("MacAddress") or ""), addresses)


@dataclass(frozen=True, slots=True)
class _Answer:
    """An engine's answer about a container."""

    pid: int | None = None  # its process; 0 if it doesn't run; None if the engine named none
    words: str = ""  # why it doesn't run, or why there is no answer
    is_there: bool = True  # whether the engine is there
    is_stopped: bool = False  # whether it doesn't run on purpose


def _ask(engine: str, container: str) -> _Answer:
    status, text = _request(engine, f"/containers/{quote(container, safe='')}/json")
    if status == http.client.OK:
        return _ask_engine(text)
    return _Answer(words=_describe_failure(status, text), is_there=status != NOBODY)


def _request(engine: str, path: str, seconds: float = ANSWER_S) -> tuple[int, bytes]:
    """Return the status and the text of an engine's answer; NOBODY, and why, if there is no engine."""
    try:
        with closing(_Connection(socket_of(engine), seconds)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read(MAX_ANSWER)
    except TimeoutError as error:
        raise HostError(engine, f"it gave no answer in {seconds:g} s") from error
    except FileNotFoundError as error:
        return NOBODY, f"its socket {error.filename} is missing".encode()
    except (OSError, http.client.HTTPException) as error:
        return NOBODY, str(error).encode()


def _ask_engine(text: bytes) -> _Answer:
    try:
        state = json.loads(text)["State"]
        pid = state["Pid"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return _Answer(words="its answer has no process")
    if type(pid) is not int or pid < 0:
        return _Answer(words=f"its process is {pid!r}")
    return _Answer(pid) if pid else _not_running(state)


def _not_running(state: dict[str, object]) -> _Answer:
    """Return why a container doesn't run: somebody has stopped it, its program has ended well, or it has failed.

    An engine stops a container by SIGTERM, then by SIGKILL. podman says whether somebody stopped it; docker only says
    how the program ended.
    """
    status, code = state.get("Status"), state.get("ExitCode")
    if status not in ENDED or type(code) is not int:
        return _Answer(0, f"its state is {status!r}" if isinstance(status, str) else "it has no state")
    if any(state.get(key) for key in FAILURES):
        return _Answer(0, f"it has failed (exit code {code})")
    is_stopped = bool(state.get("StoppedByUser")) or code in ON_PURPOSE
    return _Answer(0, f"it has ended with exit code {code}", is_stopped=is_stopped)


def _describe_failure(status: int, text: bytes) -> str:
    if status == NOBODY:
        return f"not running ({text.decode(errors='replace')})"
    try:
        return str(json.loads(text)["message"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return f"HTTP status {status}"
