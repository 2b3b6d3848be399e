"""Real relays and real syncs as processes, with certificates of a test's own authority, and a store that tests write.

Owns starting and ending them. Must not know what is expected of them.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self, TypeAlias, cast

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from sgdataplane.control.actions.importing import put_state
from sgdataplane.handover.publishing import Publisher
from sgdataplane.model.state import CloudState
from sgdataplane.relay.tls import TlsFiles, host_context
from sgdataplane.relay.wire import Ask, Hello, HostChange, Refused, Reported, read_from_relay, spell
from sgdataplane.store.audit import local_call
from sgdataplane.store.documents import Documents, Fields, Workspace
from sgdataplane.store.history import Version
from sgdataplane.store.hosts import StoredHost
from sgdataplane.store.interface import Body, Store, Write
from sgdataplane.store.interface import Path as StorePath
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.run.warmprocess import start_program
from tests.support.servers.certificates import Authority, Signed

ROOT = Path(__file__).resolve().parents[3]
HERE = "127.0.0.1"
KNOWN_HOSTS = tuple(f"host-{number}" for number in range(1, 10))
Message: TypeAlias = Hello | Reported


class Running:
    """`sgdp VERB ...` as a process. `said`: what it has said so far, a line each."""

    def __init__(self, verb: str, *options: object) -> None:
        self.said: list[str] = []
        self.process = start_program(verb, *map(str, options))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(line.rstrip("\n") for line in self.process.stderr)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first line that has it."""
        wait_until(lambda: self.found(pattern) is not None or self.process.poll() is not None, must=False)
        if self.process.poll() is not None:
            self._reader.join(DEADLINE)  # what it has said last may not be read yet
        found = self.found(pattern)
        assert found is not None, f"it doesn't say {pattern!r}: {self.said}"
        return found

    def found(self, pattern: str) -> re.Match[str] | None:
        return next((match for line in tuple(self.said) if (match := re.search(pattern, line))), None)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code


class Plant:
    """One authority, relays, and hosts with a folder each. What it starts ends with it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.authority = folder, Authority(folder / "ca")
        self._running: list[Running] = []

    def _started(self, verb: str, *options: object) -> Running:
        running = Running(verb, *options)
        self._running.append(running)
        return running

    def tls(self, signed: Signed) -> tuple[object, ...]:
        """As options."""
        return "--tls-cert", signed.certificate, "--tls-key", signed.key, "--tls-ca", self.authority.certificate

    def relay(self, store: object, port: int = 0, *more: object, signed: Signed | None = None) -> Running:
        """Not waited for."""
        at, signed = ("--listen", f"{HERE}:{port}"), signed or self.authority.sign("relay", HERE)
        return self._started("relay", "--store", store, *at, *self.tls(signed), *more)

    def sync(self, host: str, *relays: str, socket: Path | None = None, more: tuple[object, ...] = ()) -> Running:
        options = [option for url in relays for option in ("--relay", url)]
        options += ["--folder", str(self.folder_of(host)), "--agent-socket", str(socket or self.folder / "none.sock")]
        return self._started("sync", *options, *self.tls(self.authority.sign(host)), *more)

    def measured(self) -> tuple[int, tuple[object, ...]]:
        """The port where metrics will be served, and the options of what serves them there."""
        with socket.create_server((HERE, 0)) as door:
            port = int(door.getsockname()[1])
        file = self.folder / f"{port}.toml"
        file.write_text(f'metrics = "{HERE}:{port}"\n', "ascii")
        return port, ("--config", file)

    def is_running(self, number: int) -> bool:
        """The process of that number in the order in which they were started."""
        return self._running[number].process.poll() is None

    def folder_of(self, host: str) -> Path:
        return self.folder / f"host-{host}"

    def close(self) -> None:
        for running in self._running:
            running.process.kill()
        for running in self._running:
            running.end(signal.SIGKILL)


@contextmanager
def plant_in(folder: Path) -> Iterator[Plant]:
    plant = Plant(folder)
    try:
        yield plant
    finally:
        plant.close()


def url_of(relay: Running) -> str:
    """Once it serves."""
    return relay.wait_for(r"serving at (\S+); ")[1]


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


# what a store has


def write_state(
    store: Store, state: CloudState, hosts: dict[str, str] | None = None, known: Iterable[str] = KNOWN_HOSTS
) -> int:
    """Put all that a state has into a store, each ENI of `hosts` bound to its host; the revision. The hosts
    `known` may have streams."""
    workspace = Workspace(Documents.of(store.snapshot()))
    workspace.puts.update({host.path: host.body() for host in (StoredHost(name, 0.0) for name in known)})
    put_state(workspace, state, local_call("ImportState"))
    for eni, host in (hosts or {}).items():
        bind(workspace, eni, host)
    return store.commit(Write(workspace.guards, dict(workspace.puts)))


def bind(workspace: Workspace, eni: str, host: str) -> None:
    path = f"network_interface/{eni}"
    body = workspace.puts.get(path) or workspace.documents.get(path)
    assert body is not None
    about = {**_about(body), "host": host}
    workspace.puts[path] = {**body, "about": about}


def _about(body: Body) -> dict[str, Any]:
    found = body.get("about", {})
    assert isinstance(found, dict)
    return found


def change(store: Store, puts: dict[StorePath, Body], deletes: frozenset[str] = frozenset()) -> int:
    """Commit these documents as they are; the revision."""
    workspace = Workspace(Documents.of(store.snapshot()))
    workspace.puts.update(puts)
    workspace.deletes.update(deletes)
    return store.commit(Write(workspace.guards, puts, deletes))


def rebind(store: Store, eni: str, host: str) -> int:
    workspace = Workspace(Documents.of(store.snapshot()))
    bind(workspace, eni, host)
    return store.commit(Write(workspace.guards, dict(workspace.puts)))


def set_ports(store: Store, group: str, *ports: int) -> int:
    """Let these UDP ports into a group, and no others; the revision."""
    path = f"security_group/{group}"
    body = Documents.of(store.snapshot()).get(path)
    assert body is not None
    state = body["state"]
    assert isinstance(state, dict)
    rules = [
        {
            "security_group_rule_id": f"sgr-{port}",
            "type": "ingress",
            "ip_protocol": "UDP",
            "port_range": f"{port}/{port}",
            "policy": "accept",
            "cidr_ip": "0.0.0.0/0",
        }
        for port in ports
    ]
    return change(store, {path: {**body, "state": {**state, "rules": rules}}})


def put_host(store: Store, host: StoredHost) -> int:
    return change(store, {host.path: host.body()})


def hosts_of(store: Store) -> dict[str, Any]:
    """What the only relay says of its hosts; {} while it says nothing."""
    for body in store.summaries().values():
        return cast("dict[str, Any]", body["hosts"])
    return {}


def revision_seen(store: Store) -> int:
    """The last revision that the only relay has seen; 0 while it says nothing."""
    return max((cast(int, body["seen"]) for body in store.summaries().values()), default=0)


# what a host has


def document_in(folder: Path) -> dict[str, Any]:
    """What the agent would read; {} if there is nothing. All of it is of one generation."""
    current, document = Publisher(folder).current, dict[str, Any]()
    for file in sorted(current.resolve().iterdir()) if current.exists() else ():
        for section, found in json.loads(file.read_bytes()).items():
            known = document.setdefault(section, found)
            if known is not found and isinstance(known, list):
                known.extend(found)
    return document


def version_in(folder: Path) -> Version:
    """Of the current generation."""
    found = Publisher(folder).version()
    assert found is not None
    return found


def ports_in(folder: Path, group: str = "sg-a") -> set[int]:
    """That a group lets in there."""
    groups = document_in(folder).get("security_groups", [])
    rules = [rule for found in groups if found["security_group_id"] == group for rule in found.get("rules", [])]
    return {int(rule["port_range"].split("/")[0]) for rule in rules}


# hosts that say what they like


class RawHost:
    """A stream of a host's, said and read by a test. Use as a context manager. `door`: a socket that is connected
    already."""

    def __init__(
        self, plant: Plant, url: str, name: str, signed: Signed | None = None, door: socket.socket | None = None
    ) -> None:
        signed = signed or plant.authority.sign(name)
        context = host_context(TlsFiles(signed.certificate, signed.key, plant.authority.certificate))
        self._connected = ExitStack()
        how: dict[str, Any] = {"compression": None, "proxy": None, "max_size": None, "open_timeout": DEADLINE}
        connecting = connect(url, ssl=context, sock=door, **how)
        self.socket = self._connected.enter_context(connecting)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connected.close()

    def say(self, message: Message | str | bytes) -> None:
        self.socket.send(message if isinstance(message, (str, bytes)) else spell(message))

    def hear(self) -> HostChange | Refused:
        found = read_from_relay(self.socket.recv(timeout=DEADLINE))
        assert not isinstance(found, Ask), "it has said all digests"
        return found

    def hear_change(self) -> HostChange:
        """All parts of the next one as one."""
        puts: dict[str, Fields] = {}
        deletes: tuple[str, ...] = ()
        while True:
            found = self.hear()
            if isinstance(found, HostChange):
                puts, deletes = puts | dict(found.puts), (*deletes, *found.deletes)
                if not found.has_more:
                    return HostChange(found.version, puts, deletes)

    def greet(self, hello: Hello = Hello("test")) -> HostChange:  # noqa: B008  # it never changes
        self.say(hello)
        return self.hear_change()

    def end(self) -> tuple[int, str]:
        """The code and the reason with which the relay ends it, whatever else it says before. 0 if it doesn't say: what
        it had to say may be lost if it doesn't read all that was sent."""
        end = None
        try:
            while True:
                self.socket.recv(timeout=DEADLINE)
        except ConnectionClosed as error:
            end = error.rcvd
        return (0, "") if end is None else (end.code, end.reason)
